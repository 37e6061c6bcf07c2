// SPDX-License-Identifier: Apache-2.0
#include "discovery/ejection_keys.hpp"

namespace mesh::discovery {

using namespace std::chrono_literals;
using model::EjectionPolicy;

namespace {

constexpr Key kEjectionKeys[] = {
    key<&EjectionPolicy::consecutive_failures>("consecutive_failures",
                                               "So many failed connections in a row eject; 0 is never.", {0, 1000}),
    key<&EjectionPolicy::failure_percent>(
        "failure_percent", "So many percent of the connections within the window eject; 0 is never.", {0, 100}),
    key<&EjectionPolicy::window>("window", "How long a connection counts for failure_percent.", between(1s, 10min)),
    key<&EjectionPolicy::min_connections>(
        "min_connections", "Connections within the window below which failure_percent says nothing.", {1, 100000}),
    key<&EjectionPolicy::base_time>("base_time", "How long an ejection lasts, times the ejections in a row.",
                                    between(1s, 1h)),
    key<&EjectionPolicy::max_time>("max_time", "The longest an ejection lasts; at least base_time.", between(1s, 24h)),
    key<&EjectionPolicy::max_percent>(
        "max_percent", "At most this share of the endpoints is ejected or on probation; one always may be.", {1, 100}),
    key<&EjectionPolicy::probation_percent>(
        "probation_percent", "Share of its connections that an endpoint gets when it comes back.", {1, 100}),
    key<&EjectionPolicy::probation_successes>(
        "probation_successes", "Connections that must be established before it gets all; one failure ejects again.",
        {1, 1000}),
    key<&EjectionPolicy::count_reset>("count_reset",
                                      "Established connections that were reset or lost are failures, too."),
    key<&EjectionPolicy::count_given_up>(
        "count_given_up", "Connects that the application gave up within the first second are failures, too."),
};

const EjectionPolicy kFreshEjection{};

}  // namespace

const Table kEjectionTable{.name = "ejection", .keys = kEjectionKeys, .defaults = &kFreshEjection};

void decode_ejection(Decoder& decoder, const Value& value, EjectionPolicy& policy) {
  if (value.is_scalar() && (value.text == "off" || value.text == "false")) {
    policy = {.enabled = false};
    return;
  }
  if (value.is_scalar() && (value.text == "on" || value.text == "true")) {
    policy.enabled = true;
    return;
  }
  if (value.kind != Value::Kind::kMap) {
    decoder.error(value, "must be a map of keys and values, on or off");
    return;
  }
  policy.enabled = true;
  decoder.table(kEjectionTable, value, &policy);
  if (policy.max_time >= policy.base_time) return;
  const Value* const written = value.find("max_time");
  if (written == nullptr) {
    policy.max_time = policy.base_time;
    return;
  }
  decoder.under("max_time", [&] {
    decoder.error(*written, "shorter than the base_time of " + std::to_string(policy.base_time.count()) + "ms",
                  "set a longer max_time or a shorter base_time");
  });
}

Value encode_ejection(const EjectionPolicy& policy, Secrets secrets) {
  if (!policy.enabled) return Value::string("off");
  if (secrets == Secrets::kHide) return encode(kEjectionTable, &policy, secrets);
  if (policy == kFreshEjection) return Value::string("on");
  return encode(kEjectionTable, &policy, secrets, Encode::kChanged);
}

}  // namespace mesh::discovery

// SPDX-License-Identifier: Apache-2.0
#include "discovery/drain_keys.hpp"

#include <array>

#include "base/duration.hpp"
#include "model/service.hpp"

namespace mesh::discovery {

using namespace std::chrono_literals;

template <>
struct EnumNames<model::OnDown> {
  static constexpr std::array<std::string_view, 2> kNames = {"leave", "reset"};
  static constexpr std::array<model::OnDown, 2> kValues = {model::OnDown::kLeave, model::OnDown::kReset};
};

namespace {

constexpr std::string_view kNever = "never";
constexpr Key kTimeoutLimits{.min = 0, .max = std::chrono::nanoseconds(24h).count(), .unit = 1'000'000'000};

void decode_timeout(Decoder& decoder, const Key&, const Value& value, void* target) {
  auto& policy = *static_cast<model::DrainPolicy*>(target);
  if (value.is_scalar() && value.text == kNever) {
    policy.timeout.reset();
    return;
  }
  std::chrono::nanoseconds duration{};
  if (decoder.duration(kTimeoutLimits, value, duration)) {
    policy.timeout = std::chrono::duration_cast<std::chrono::seconds>(duration);
  }
}

Value encode_timeout(const Key&, const void* target, Secrets) {
  const auto& timeout = static_cast<const model::DrainPolicy*>(target)->timeout;
  return Value::string(timeout ? base::format_duration(*timeout) : std::string(kNever));
}

constexpr Key kDrainKeys[] = {
    {.name = "drain_timeout",
     .doc = "How long connections stay to an endpoint that is drained, draining or gone; then they are reset.",
     .schema = R"({"oneOf":[{"const":"never"},{"type":["string","integer"],"maximum":0,)"
               R"("pattern":"^(0|([0-9]+(ns|us|ms|s|m|h|d))+)$"}]})",
     .decode = decode_timeout,
     .encode = encode_timeout},
    key<&model::DrainPolicy::on_down>("on_down", "What happens to connections of endpoints that are down."),
    key<&model::DrainPolicy::reset_after>(
        "reset_after", "With on_down: reset, how long an endpoint is down until its connections are reset.",
        between(0s, 24h)),
    key<&model::DrainPolicy::max_age>("max_connection_age",
                                      "Connections that are older are reset, a few at a time; 0 is never.",
                                      between(0s, 30 * 24h)),
};

const model::DrainPolicy kFreshDrain{};

}  // namespace

const Table kDrainTable{.name = "defaults", .keys = kDrainKeys, .defaults = &kFreshDrain};

}  // namespace mesh::discovery

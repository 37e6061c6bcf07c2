// SPDX-License-Identifier: Apache-2.0
#include "health/probe_fsm.hpp"

#include <algorithm>

#include "base/random.hpp"

namespace mesh::health {
namespace {

using model::ProbeReason;
using model::Verdict;

/// `whole * draw / 2^64`, draw uniform.
base::Duration fraction(base::Duration whole, std::uint64_t draw) {
  return base::Duration(static_cast<base::Duration::rep>(
      (static_cast<unsigned __int128>(draw) * static_cast<std::uint64_t>(whole.count())) >> 64));
}

}  // namespace

ProbeFsm ProbeFsm::restored(const model::EndpointHealth& record) {
  ProbeFsm fsm;
  fsm.record_ = record;
  fsm.succeeding_ = record.verdict == Verdict::kUp;
  return fsm;
}

ProbeFsm::Change ProbeFsm::on_result(const model::ProbePolicy& policy, ProbeReason reason, std::string detail,
                                     base::WallTime now) {
  record_.reason = reason;
  record_.detail = std::move(detail);
  record_.checked_at = now;
  if (reason == ProbeReason::kLocal) return Change::kNone;
  const bool success = reason == ProbeReason::kOk;
  record_.streak = success == succeeding_ ? record_.streak + 1 : 1;
  succeeding_ = success;
  Verdict verdict = record_.verdict;
  if (success) {
    if (verdict == Verdict::kUnknown || record_.streak >= policy.rise) verdict = Verdict::kUp;
  } else if (record_.streak >= policy.fall) {
    verdict = Verdict::kDown;
  }
  if (verdict == record_.verdict) return Change::kNone;
  record_.verdict = verdict;
  record_.since = now;
  return Change::kVerdict;
}

bool ProbeFsm::in_transition() const {
  if (record_.verdict == Verdict::kUnknown) return true;
  return succeeding_ != (record_.verdict == Verdict::kUp);
}

base::Duration spacing(const model::ProbePolicy& policy, bool in_transition, std::uint64_t draw) {
  const base::Duration whole = in_transition ? std::min(policy.fast_interval, policy.interval) : policy.interval;
  return whole - fraction(whole * policy.jitter_percent / 100, draw);
}

base::Duration first_spacing(const model::ProbePolicy& policy, std::uint64_t seed) {
  return base::Duration(policy.interval) - fraction(policy.interval, base::mix64(seed));
}

std::uint64_t endpoint_seed(std::uint64_t node_seed, const base::SocketAddress& address) {
  return base::mix64(base::hash64(address.ip.bytes, node_seed) + address.port);
}

}  // namespace mesh::health

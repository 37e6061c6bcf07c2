// SPDX-License-Identifier: Apache-2.0
// When an endpoint is up, and when it is looked at next. Pure: results and times come in, verdicts and times go out.
//
// Bound (with timeout <= interval): an endpoint that dies is down at most `fall x interval + timeout` later. The first
// failing probe begins within one interval of the death, since jitter only ever makes a probe early; the others follow
// at the fast interval, which is never longer; the last one takes at most the timeout.
#pragma once

#include <cstdint>
#include <string>

#include "base/clock.hpp"
#include "model/health_view.hpp"
#include "model/service.hpp"

namespace mesh::health {

class ProbeFsm {
 public:
  ProbeFsm() = default;
  /// As it was when the agent stopped: an endpoint that was up has to fail `fall` times again to go down.
  static ProbeFsm restored(const model::EndpointHealth& record);

  enum class Change { kNone, kVerdict };
  /// Takes the result of a finished probe. kLocal says nothing about the endpoint: it is remembered as the last reason
  /// and changes neither verdict nor streak.
  Change on_result(const model::ProbePolicy& policy, model::ProbeReason reason, std::string detail, base::WallTime now);

  [[nodiscard]] model::Verdict verdict() const { return record_.verdict; }
  /// Between states: no verdict yet, or the last result speaks against it. Then the fast interval applies.
  [[nodiscard]] bool in_transition() const;
  [[nodiscard]] const model::EndpointHealth& record() const { return record_; }

 private:
  model::EndpointHealth record_;
  bool succeeding_ = false;  ///< What the streak is made of.
};

/// Time between the beginnings of two probes. `draw`: a random number of its own for each probe.
[[nodiscard]] base::Duration spacing(const model::ProbePolicy& policy, bool in_transition, std::uint64_t draw);

/// After its first result an endpoint waits only this part of an interval (0 < phase <= interval), so that endpoints
/// which appeared together are not probed together for ever. `seed` is of node and endpoint: nodes differ, restarts
/// don't.
[[nodiscard]] base::Duration first_spacing(const model::ProbePolicy& policy, std::uint64_t seed);

/// Of this node and this endpoint.
[[nodiscard]] std::uint64_t endpoint_seed(std::uint64_t node_seed, const base::SocketAddress& address);

}  // namespace mesh::health

// SPDX-License-Identifier: Apache-2.0
// Whether plaintext is taken for a service of the mesh. Pure.
#pragma once

#include <optional>
#include <string_view>

#include "base/clock.hpp"
#include "relay/settings.hpp"

namespace mesh::relay {

/// "2026-12-31" is over when that day is, in UTC; "2026-12-31T18:00:00Z" is a moment. Nothing: it is neither.
std::optional<base::WallTime> permission_end(std::string_view text);

struct PlaintextVerdict {
  bool taken = true;
  std::optional<base::WallTime> end;  ///< From when on it is refused; nothing: that does not change.
};
/// kPermissive without an end that can be read is refused.
PlaintextVerdict judge_plaintext(const MeshService& service, base::WallTime now);

}  // namespace mesh::relay

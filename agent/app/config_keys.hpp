// SPDX-License-Identifier: Apache-2.0
// The keys of meshd.yaml above those of a service (discovery/service_keys.hpp).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "app/config.hpp"
#include "discovery/keys.hpp"

namespace mesh::app {

inline constexpr std::string_view kApiVersion = "meshd/v1";
inline constexpr std::int64_t kMaxTable = 1 << 26;  ///< Elements; the kernel's own limits are near.

/// The sections of one file, as they were found; decoded later, because `defaults` holds for the services of all files.
struct Sections {
  const discovery::Value* api_version = nullptr;
  const discovery::Value* agent = nullptr;
  const discovery::Value* defaults = nullptr;
  const discovery::Value* services = nullptr;
  const discovery::Value* files = nullptr;
  const discovery::Value* sources = nullptr;
  const discovery::Value* relay = nullptr;
};

extern const discovery::Table kRootTable;   // Sections
extern const discovery::Table kAgentTable;  // AgentSettings

/// "/a/b" without dots, doubled or trailing slashes; "" if it is none.
std::string normal_cgroup(std::string_view text);

/// What no single key can check: relations between keys, defaults that follow from other keys.
void finish_agent_settings(discovery::Decoder& decoder, const discovery::Value& value, AgentSettings& settings);

}  // namespace mesh::app

// SPDX-License-Identifier: Apache-2.0
// The commands of meshd that need no agent. Each prints a table for people, or one JSON document of the admin API's
// types with --json, and returns the exit code.
#pragma once

#include <cstdint>
#include <string>

#include "discovery/file.hpp"

namespace mesh::app {

struct CommandOptions {
  bool json = false;
  std::string config;
  std::string bpffs;  ///< Empty: as the configuration says, or the default where it can't be read.
  std::string table;
  std::uint64_t services = 0;
  std::uint64_t endpoints = 0;
  std::string balance = "weighted_random";
};

int command_check(const CommandOptions& options);
int command_check_config(const CommandOptions& options);
int command_detach(const CommandOptions& options);
int command_dump(const CommandOptions& options);
int command_status(const CommandOptions& options);
int command_estimate(const CommandOptions& options);
int command_version(const CommandOptions& options);
int command_schema(const CommandOptions& options);

/// The last good services on disk, for files that can't be read now; nothing if there are none.
discovery::Restored restored_services(const std::string& state_dir);

}  // namespace mesh::app

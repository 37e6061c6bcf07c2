// SPDX-License-Identifier: Apache-2.0
// Runs the meshd binary for what must work without an agent: it has the kernel and configuration code that meshctl
// does not link.
#pragma once

#include <string>
#include <vector>

#include "base/error.hpp"

namespace mesh::cli {

struct Context;

struct MeshdAnswer {
  int exit_code = 0;
  std::string output;  ///< stdout: one JSON document; stderr goes to the terminal
};

/// `meshd ARGUMENTS... --json [--config PATH] [--bpffs PATH]`: the meshd beside this binary, else the one in PATH.
base::Result<MeshdAnswer> run_meshd(const Context& context, std::vector<std::string> arguments);

/// kInvalid where only a socket that is not the default one says which mesh is meant: `meshd` would take the default's.
base::Result<void> expect_known_mesh(const Context& context);

/// --config, or else the file of the agent that answers at the socket; "" if none does.
std::string config_path(const Context& context);

}  // namespace mesh::cli

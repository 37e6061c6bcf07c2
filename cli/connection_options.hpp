// SPDX-License-Identifier: Apache-2.0
// What `meshctl connections` and `flows` share.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "api/connections.hpp"
#include "cli/client.hpp"

namespace mesh::cli {

void add_filter_options(CLI::App& command, api::ConnectionFilter& filter);
QueryParameters filter_parameters(const api::ConnectionFilter& filter);
std::string process_text(std::uint32_t pid, const std::string& name);  ///< "4711/curl", "-"

}  // namespace mesh::cli

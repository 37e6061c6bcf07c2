// SPDX-License-Identifier: Apache-2.0
// What applications experience, and what people are told, while a registry fails in every way it can: each kind of
// source with each fault, on a lab of its own. Known endpoints must be reached throughout, status must say what is
// wrong, and when the registry is right again so must the agent be, without a restart.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace mesh::test {

/// One cell of the table.
struct SourcesFinding {
  std::string source;          ///< "consul"
  std::string fault;           ///< "killed"
  std::string why_not;         ///< Why it was not tried: the protocol has no such thing, or something isn't installed.
  bool skipped = false;        ///< Not tried for what isn't installed.
  std::uint64_t connects = 0;  ///< While it lasted; 0: none are expected to succeed, or no agent was there.
  std::uint64_t failed = 0;
  std::string status;                 ///< What `meshctl sources` said of it.
  std::optional<double> shown_s;      ///< From the fault until status said so.
  std::optional<double> recovered_s;  ///< From its end until the source was synced and all was as it should be.
  std::vector<std::string> faults;    ///< What did not hold.
};

struct SourcesOptions {
  std::vector<std::string> sources;  ///< Which; empty: all.
  std::function<void(const SourcesFinding&)> report;
};

/// The kinds of sources, as SourcesOptions::sources names them.
std::vector<std::string> sources_on_trial();
void run_sources_trial(const SourcesOptions& options);

}  // namespace mesh::test

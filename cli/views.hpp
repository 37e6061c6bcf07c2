// SPDX-License-Identifier: Apache-2.0
// The texts for people, as pure functions of a document: what golden tests compare.
#pragma once

#include <string>

#include "api/bpf.hpp"
#include "api/connections.hpp"
#include "api/control.hpp"
#include "api/drain.hpp"
#include "api/history.hpp"
#include "api/services.hpp"
#include "api/status.hpp"
#include "base/clock.hpp"
#include "cli/render.hpp"

namespace mesh::cli {

struct ViewOptions {
  Style style;
  bool wide = false;
  base::WallTime now{};
};

std::string status_text(const api::Status& status, const ViewOptions& options);
std::string explain_text(const api::ExplainView& view, const ViewOptions& options);
std::string services_text(const api::ServiceList& list, const ViewOptions& options);
std::string endpoints_text(const api::EndpointList& list, const ViewOptions& options);
std::string sources_text(const api::SourceList& list, const ViewOptions& options);
std::string certificates_text(const api::CertificateList& list, const ViewOptions& options);
std::string connections_text(const api::ConnectionList& list, const ViewOptions& options);
std::string flows_text(const api::FlowList& list, const ViewOptions& options);
std::string drains_text(const api::DrainList& list, const ViewOptions& options);
std::string history_text(const api::HistoryList& list, const ViewOptions& options);
std::string check_text(const api::CheckReport& report, const ViewOptions& options);
/// `held`: whether the agent that wrote the tables lives.
std::string dump_text(const api::BpfDump& dump, const ViewOptions& options, bool held = true);
std::string diff_text(const api::BpfDiff& diff, const ViewOptions& options);
std::string stats_text(const api::BpfStats& stats, const ViewOptions& options);
/// "FILE:LINE:COLUMN: KEY: message; suggestion", one line each.
std::string diagnostics_text(const std::vector<api::DiagnosticView>& diagnostics);

/// Used part of a map, 0 to 1; nothing where it has none.
std::optional<double> fill_of(const api::MapFill& map);
Table maps_table(const std::vector<api::MapFill>& maps);

/// "http 200 1.2s ago", "down: refused x3 since 12:04:31", "draining"
std::string health_text(const api::EndpointView& endpoint, base::WallTime now);

}  // namespace mesh::cli

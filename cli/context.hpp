// SPDX-License-Identifier: Apache-2.0
// What every command gets: the global options, the agent's client, and how to print. A command registers itself with
// an add_* function; its work is what `run` is set to when it was chosen on the command line.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <functional>
#include <iosfwd>
#include <string>
#include <string_view>

#include "api/common.hpp"
#include "base/error.hpp"
#include "cli/client.hpp"
#include "cli/render.hpp"

namespace mesh::cli {

using api::ExitCode;

struct Context {
  Context(std::ostream& out_stream, std::ostream& error_stream) : out(out_stream), err(error_stream) {}

  // Global options.
  std::string socket{api::kDefaultSocket};
  Output output = Output::kTable;
  bool no_headers = false;
  bool watch = false;
  double watch_interval_s = 1;
  double timeout_s = 10;
  std::string config_path;  ///< --config, for what `meshd` does; empty: its default
  std::string bpffs;        ///< --bpffs, likewise

  std::ostream& out;
  std::ostream& err;
  bool terminal = false;  ///< stdout is one
  bool colour = false;

  /// The chosen command; may run many times with --watch.
  std::function<base::Result<ExitCode>()> run;
  bool watchable = false;

  [[nodiscard]] Client client() const {
    return Client(socket, std::chrono::milliseconds(static_cast<long long>(timeout_s * 1000)));
  }
  [[nodiscard]] Style style() const { return {.colour = colour, .headers = !no_headers}; }
  [[nodiscard]] bool machine_output() const { return output == Output::kJson || output == Output::kYaml; }
  /// Prints a document as JSON or YAML.
  void print_document(const api::Json& document) const;
};

/// A document of the agent, decoded for people, or printed as it came for machines: `human` is called for table and
/// wide only. Returns the decoded value for the exit code.
template <typename T>
base::Result<T> show(Context& context, const api::Json& document, auto human) {
  T value = MESH_TRY(api::from_document<T>(document));
  if (context.machine_output()) {
    context.print_document(document);
  } else {
    human(value);
  }
  return value;
}

/// GET `target` and parse the answer.
base::Result<api::Json> fetch(const Context& context, const std::string& target);
base::Result<api::Json> send(const Context& context, const std::string& path, const std::string& body);

void add_status(CLI::App& app, Context& context);
void add_check(CLI::App& app, Context& context);
void add_services(CLI::App& app, Context& context);
void add_endpoints(CLI::App& app, Context& context);
void add_sources(CLI::App& app, Context& context);
void add_certs(CLI::App& app, Context& context);
void add_ca(CLI::App& app, Context& context);
void add_connections(CLI::App& app, Context& context);
void add_flows(CLI::App& app, Context& context);
void add_top(CLI::App& app, Context& context);
void add_stat(CLI::App& app, Context& context);
void add_history(CLI::App& app, Context& context);
void add_explain(CLI::App& app, Context& context);
void add_bpf(CLI::App& app, Context& context);
void add_dump(CLI::App& app, Context& context);
void add_run(CLI::App& app, Context& context);
void add_drain(CLI::App& app, Context& context);
void add_pause(CLI::App& app, Context& context);
void add_config(CLI::App& app, Context& context);
void add_log_level(CLI::App& app, Context& context);
void add_reload(CLI::App& app, Context& context);
void add_detach(CLI::App& app, Context& context);
void add_estimate(CLI::App& app, Context& context);
void add_version(CLI::App& app, Context& context);
void add_completion(CLI::App& app, Context& context);

/// Parses, runs, prints errors; returns the process's exit code.
int run_meshctl(int argc, const char* const* argv, Context& context);
/// The whole command tree, for run_meshctl, completion and tests.
void build_commands(CLI::App& app, Context& context);

}  // namespace mesh::cli

// SPDX-License-Identifier: Apache-2.0
// The driver behind scripts/verify: the long trials, for people. The system tests run the same trials in short.
#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/support/agent.hpp"
#include "tests/support/balance_simulator.hpp"
#include "tests/support/books_trial.hpp"
#include "tests/support/restart_trial.hpp"
#include "tests/support/sources_trial.hpp"
#include "tests/support/tls_trial.hpp"
#include "tests/support/truth_trial.hpp"

namespace mesh::test {
namespace {

constexpr int kSkipped = 77;

int restart(RestartOptions options) {
  const bool terminal = ::isatty(STDOUT_FILENO) == 1;
  fmt::print("seed {}, {} kills, {} build(s) of meshd taking turns\n", options.seed, options.kills,
             std::max<std::size_t>(1, options.programs.size()));
  auto told = std::chrono::steady_clock::now();
  options.progress = [&](int done, const std::string& text) {
    const auto now = std::chrono::steady_clock::now();
    if (now - told < (terminal ? std::chrono::milliseconds(200) : std::chrono::seconds(30))) return;
    told = now;
    fmt::print("{}{} of {} kills, {}{}", terminal ? "\r" : "", done, options.kills, text, terminal ? "\x1b[K" : "\n");
    std::fflush(stdout);
  };
  const RestartReport report = run_restart_trial(options);
  fmt::print("{}killed {} times while applying changes, {} times while starting; {} changes of the program\n",
             terminal ? "\r\x1b[K" : "", report.kills_applying, report.kills_starting, report.program_changes);
  fmt::print("{:<48} {:>10} {:>8} {:>12}  {}\n", "clients", "attempts", "failed", "longest ms", "first error");
  for (const auto& row : report.rows) {
    fmt::print("{:<48} {:>10} {:>8} {:>12.2f}  {}\n", row.target, row.counts.attempts, row.counts.failures,
               row.counts.longest_ms, row.counts.failures == 0 ? "" : ::strerrordesc_np(row.counts.first_errno));
  }
  for (const std::string& fault : report.faults) fmt::print("FAULT {}\n", fault);
  fmt::print("{} attempts, {} failures, {} faults (goal: 0 and 0)\n", report.attempts(), report.failures(),
             report.faults.size());
  return report.failures() == 0 && report.faults.empty() ? 0 : 1;
}

int books(BooksOptions options) {
  fmt::print("seed {}, {} kills of the agent, {} clients\n", options.seed, options.kills, options.clients);
  options.progress = [&](int done, const std::string& text) {
    if (done % 10 == 0) fmt::print("{} of {} kills, {}\n", done, options.kills, text);
    std::fflush(stdout);
  };
  const BooksReport report = run_books_trial(options);
  for (const std::string& fault : report.faults) fmt::print("FAULT {}\n", fault);
  fmt::print(
      "{} connections begun by the clients; {} in the books of the last backends, the canary's and those of\n"
      "clients that retried included; {} records left, {} faults (goal: 0 and 0)\n",
      report.connections, report.opened, report.records, report.faults.size());
  return report.faults.empty() ? 0 : 1;
}

int tls_restart(TlsTrialOptions options) {
  options.progress = [](const std::string& line) {
    fmt::print("{}\n", line);
    std::fflush(stdout);
  };
  const TlsTrialReport report = run_tls_trial(options);
  fmt::print("{:<40} {:>6} {:>12} {:>8} {:>8} {:>12}\n", "what", "times", "connections", "failed", "allowed",
             "longest ms");
  for (const auto& row : report.rows) {
    fmt::print("{:<40} {:>6} {:>12} {:>8} {:>8} {:>12.1f}\n", row.what, row.times, row.attempts, row.failures,
               row.allowed, row.longest_ms);
  }
  for (const std::string& fault : report.faults) fmt::print("FAULT {}\n", fault);
  fmt::print("{} faults (goal: 0)\n", report.faults.size());
  return report.faults.empty() ? 0 : 1;
}

int truth() {
  int hidden = 0;
  run_truth_trial([&](const TruthFinding& finding) {
    fmt::print("{:<44} {:<10} {:>8}  {}\n", finding.lie, finding.witness,
               finding.shown ? fmt::format("{:.1f} s", finding.seconds) : "HIDDEN", finding.detail);
    std::fflush(stdout);
    if (!finding.shown) ++hidden;
  });
  fmt::print("{} of the witnesses still hid a lie at the first look after {} s (goal: 0)\n", hidden, kTruthSeconds);
  return hidden == 0 ? 0 : 1;
}

nlohmann::json to_json(const SourcesFinding& finding) {
  nlohmann::json json = {{"source", finding.source}, {"fault", finding.fault}};
  if (!finding.why_not.empty()) {
    json[finding.skipped ? "skipped" : "not_applicable"] = finding.why_not;
    return json;
  }
  json.update({{"connects", finding.connects}, {"failed", finding.failed}, {"status", finding.status}});
  if (finding.shown_s) json["shown_s"] = *finding.shown_s;
  if (finding.recovered_s) json["recovered_s"] = *finding.recovered_s;
  json["faults"] = finding.faults;
  return json;
}

void print(const SourcesFinding& finding) {
  if (!finding.why_not.empty()) {
    fmt::print("{:<11} {:<34} {:<8} {}\n", finding.source, finding.fault, finding.skipped ? "SKIPPED" : "n/a",
               finding.why_not);
    return;
  }
  const auto time = [](const std::optional<double>& seconds) {
    return seconds ? fmt::format("{:.1f} s", *seconds) : "-";
  };
  const std::string traffic = finding.connects == 0 ? "-" : fmt::format("{} of {}", finding.failed, finding.connects);
  fmt::print("{:<11} {:<34} {:<8} {:>14} {:>7} {:>9}  {}\n", finding.source, finding.fault,
             finding.faults.empty() ? "held" : "FAULT", traffic, time(finding.shown_s), time(finding.recovered_s),
             finding.status.substr(0, 140));
  for (const std::string& fault : finding.faults) fmt::print("{:<11}   FAULT: {}\n", "", fault);
}

int sources(SourcesOptions options, bool as_json) {
  nlohmann::json findings = nlohmann::json::array();
  int faults = 0;
  if (!as_json) {
    fmt::print("{:<11} {:<34} {:<8} {:>14} {:>7} {:>9}  {}\n", "source", "fault", "", "failed", "shown", "recovered",
               "status");
  }
  options.report = [&](const SourcesFinding& finding) {
    faults += static_cast<int>(finding.faults.size());
    if (as_json) {
      findings.push_back(to_json(finding));
    } else {
      print(finding);
      std::fflush(stdout);
    }
  };
  run_sources_trial(options);
  if (as_json) {
    fmt::print("{}\n", nlohmann::json{{"findings", findings}, {"faults", faults}}.dump(1));
  } else {
    fmt::print("{} faults (goal: 0)\n", faults);
  }
  return faults == 0 ? 0 : 1;
}

int run_verify(int argc, char** argv) {
  CLI::App app("Long trials of the real meshd on a lab of network namespaces; needs root");
  app.require_subcommand(1);
  RestartOptions options;
  options.seed = static_cast<std::uint64_t>(std::chrono::system_clock::now().time_since_epoch().count()) % 1'000'000;
  CLI::App* restart_command =
      app.add_subcommand("restart", "kill -9 at random moments, restart, upgrade; 0 failed connects");
  restart_command->add_option("--kills", options.kills, "how many times")->capture_default_str();
  restart_command->add_option("--seed", options.seed, "repeats a run's decisions (not the kernel's timing)");
  restart_command->add_option("--program", options.programs, "builds of meshd that take turns; default: this one");
  BooksOptions books_options;
  CLI::App* books_command = app.add_subcommand(
      "books", "connections that end in every way while the agent is killed; afterwards opened = closed");
  books_command->add_option("--kills", books_options.kills, "how many times")->capture_default_str();
  books_command->add_option("--seed", options.seed, "repeats a run's decisions (not the kernel's timing)");
  books_command->add_option("--clients", books_options.clients, "processes")->capture_default_str();
  TlsTrialOptions tls_options;
  CLI::App* tls_command = app.add_subcommand(
      "tls-restart", "restart, upgrade and kill -9 of relay and agent under TLS connects; 0 failed ones");
  tls_command->add_option("--rounds", tls_options.rounds, "how many times each")->capture_default_str();
  tls_command->add_option("--program", tls_options.program, "another build of meshd that takes turns with this one");
  app.add_subcommand("truth", "known lies, each of which must show within five seconds");
  SourcesOptions sources_options;
  bool as_json = false;
  CLI::App* sources_command = app.add_subcommand("sources", "registries that fail in every way they can");
  sources_command->add_option("sources", sources_options.sources, "which; default: all")
      ->check(CLI::IsMember(sources_on_trial()));
  sources_command->add_flag("--json", as_json, "one JSON object in place of the table");
  CLI::App* simulate_command = app.add_subcommand("simulate", "balancing in simulated time; needs no root");
  simulate_command->add_option("--seed", options.seed, "the same seed gives the same numbers");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (simulate_command->parsed()) {
    fmt::print("{}", support::simulation_report(options.seed));
    return 0;
  }
  if (const std::string why = agent_unavailable(); !why.empty()) {
    fmt::print("SKIPPED: {}\n", why);
    return kSkipped;
  }
  books_options.seed = options.seed;
  if (tls_command->parsed()) return tls_restart(std::move(tls_options));
  if (books_command->parsed()) return books(std::move(books_options));
  if (sources_command->parsed()) return sources(std::move(sources_options), as_json);
  return restart_command->parsed() ? restart(std::move(options)) : truth();
}

}  // namespace
}  // namespace mesh::test

int main(int argc, char** argv) {
  try {
    return mesh::test::run_verify(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "verify: {}\n", error.what());
    return 1;
  }
}

// SPDX-License-Identifier: Apache-2.0
// `meshctl detach`, `version` and `log-level`.
#include <fmt/format.h>
#include <unistd.h>

#include <iostream>
#include <ostream>

#include "api/control.hpp"
#include "cli/context.hpp"
#include "cli/meshd.hpp"

namespace mesh::cli {
namespace {

bool confirmed(Context& context) {
  if (::isatty(STDIN_FILENO) != 1) return false;
  context.err << "Take meshd's hooks off and remove its tables? Services then are not reachable by their VIPs. [y/N] ";
  context.err.flush();
  std::string line;
  std::getline(std::cin, line);
  return line == "y" || line == "Y" || line == "yes";
}

base::Result<api::Json> detach_document(Context& context) {
  auto document = send(context, "/v1/detach", "");
  if (document || document.error().kind != base::ErrorKind::kUnavailable) return document;
  MESH_CHECK(expect_known_mesh(context));
  const MeshdAnswer answer = MESH_TRY(run_meshd(context, {"detach"}));
  if (answer.exit_code != 0) {
    return base::fail(answer.exit_code == static_cast<int>(ExitCode::kPermission) ? base::ErrorKind::kPermission
                                                                                  : base::ErrorKind::kSystem,
                      fmt::format("run meshd detach: it ended with {}", answer.exit_code));
  }
  return api::detail::parse(answer.output);
}

base::Result<ExitCode> run_detach(Context& context, bool yes) {
  if (!yes && !confirmed(context)) {
    return base::fail(base::ErrorKind::kInvalid, "detach: not confirmed", "say --yes where nobody can be asked");
  }
  const api::Json document = MESH_TRY(detach_document(context));
  const auto view = MESH_TRY(show<api::DetachView>(context, document, [&](const api::DetachView& shown) {
    for (const std::string& item : shown.removed) context.out << "removed " << printable(item) << '\n';
    for (const std::string& item : shown.kept) context.out << "kept " << printable(item) << '\n';
    if (shown.removed.empty() && shown.kept.empty()) context.out << "nothing was attached\n";
  }));
  return view.kept.empty() ? ExitCode::kOk : ExitCode::kFailure;
}

base::Result<ExitCode> run_version(Context& context) {
  api::Json document = {
      {"apiVersion", api::kApiVersion}, {"kind", "Versions"}, {"meshctl", MESH_VERSION}, {"meshd", nullptr}};
  if (auto agent = fetch(context, "/v1/version")) document["meshd"] = *std::move(agent);
  if (context.machine_output()) {
    context.print_document(document);
    return ExitCode::kOk;
  }
  context.out << "meshctl " << MESH_VERSION << '\n';
  if (document["meshd"].is_null()) {
    context.out << "meshd   not reachable at " << context.socket << '\n';
    return ExitCode::kOk;
  }
  const auto view = MESH_TRY(api::from_document<api::VersionView>(document["meshd"]));
  context.out << "meshd   " << printable(view.version)
              << (view.revision.empty() ? "" : " (" + printable(view.revision) + ")") << ", tables "
              << printable(view.layout) << ", " << printable(view.compiler) << '\n';
  return ExitCode::kOk;
}

base::Result<ExitCode> run_log_level(Context& context, const std::string& level) {
  const api::Json document = level.empty() ? MESH_TRY(fetch(context, "/v1/log"))
                                           : MESH_TRY(send(context, "/v1/log", api::encode(api::LogView{level})));
  MESH_TRY(show<api::LogView>(context, document, [&](const api::LogView& view) { context.out << view.level << '\n'; }));
  return ExitCode::kOk;
}

}  // namespace

void add_detach(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("detach", "take every hook off and remove the pins; works without an agent");
  auto yes = std::make_shared<bool>(false);
  command->add_flag("--yes", *yes, "do not ask");
  command->footer("Connections that exist stay. A running agent ends.\nExamples:\n  sudo meshctl detach --yes");
  command->callback([&context, yes] { context.run = [&context, yes] { return run_detach(context, *yes); }; });
}

void add_version(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("version", "of meshctl and of the agent");
  command->callback([&context] { context.run = [&context] { return run_version(context); }; });
}

void add_log_level(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("log-level", "show or change what the agent logs, until its next start");
  auto level = std::make_shared<std::string>();
  command->add_option("LEVEL", *level, "debug, info, warn or error")
      ->check(CLI::IsMember(std::vector<std::string>{"debug", "info", "warn", "error"}));
  command->callback([&context, level] { context.run = [&context, level] { return run_log_level(context, *level); }; });
}

}  // namespace mesh::cli

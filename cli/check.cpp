// SPDX-License-Identifier: Apache-2.0
// `meshctl check`: what this host has and lacks, one line each with its remedy. Works before an agent runs: meshd does
// the looking.
#include <fmt/format.h>

#include <algorithm>
#include <ostream>

#include "base/plural.hpp"
#include "cli/context.hpp"
#include "cli/meshd.hpp"
#include "cli/views.hpp"

namespace mesh::cli {
namespace {

std::size_t count_state(const api::CheckReport& report, std::string_view state) {
  return static_cast<std::size_t>(
      std::count_if(report.items.begin(), report.items.end(), [&](const auto& item) { return item.state == state; }));
}

base::Result<ExitCode> run_check(Context& context) {
  context.config_path = config_path(context);
  const MeshdAnswer answer = MESH_TRY(run_meshd(context, {"check"}));
  const auto document = api::detail::parse(answer.output);
  if (!document) {
    return base::fail(base::ErrorKind::kSystem,
                      fmt::format("run meshd check: it ended with {} and no report", answer.exit_code));
  }
  const auto report = MESH_TRY(show<api::CheckReport>(context, *document, [&](const api::CheckReport& shown) {
    context.out << check_text(shown, {context.style(), context.output == Output::kWide, base::wall_now()});
  }));
  return count_state(report, "fail") > 0 ? ExitCode::kFailure : ExitCode::kOk;
}

}  // namespace

std::string check_text(const api::CheckReport& report, const ViewOptions& options) {
  std::string text;
  std::string group;
  std::size_t width = 0;
  for (const api::CheckItem& item : report.items) width = std::max(width, display_width(printable(item.name)));
  for (const api::CheckItem& item : report.items) {
    if (item.group != group) text += paint(options.style, Colour::kBold, printable(item.group)) + '\n';
    group = item.group;
    const std::string name = printable(item.name);
    text += "  " + paint(options.style, colour_of_state(item.state), fmt::format("{:<4}", item.state)) + "  " + name +
            std::string(width - display_width(name), ' ') + "  " + printable(item.detail) + '\n';
    if (!item.remedy.empty()) text += "        -> " + printable(item.remedy) + '\n';
  }
  return text + fmt::format("{} ok, {}, {}\n", count_state(report, "ok"),
                            base::counted(count_state(report, "warn"), "warning"),
                            base::counted(count_state(report, "fail"), "failure"));
}

void add_check(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("check", "what this host has and lacks; needs no agent");
  command->footer(
      "Exit code 0 nothing fails (warnings may stand), 1 something fails.\n"
      "Examples:\n  sudo meshctl check\n  sudo meshctl check -o json | jq '.items[] | select(.state != \"ok\")'");
  command->callback([&context] { context.run = [&context] { return run_check(context); }; });
}

}  // namespace mesh::cli

// SPDX-License-Identifier: Apache-2.0
// `meshctl pause` and `resume`: the pass-through switch. A pause is a time in the kernel tables, so it ends by itself
// also when agent and terminal are gone.
#include <fmt/format.h>

#include <charconv>
#include <ostream>

#include "api/control.hpp"
#include "cli/context.hpp"
#include "cli/duration.hpp"

namespace mesh::cli {
namespace {

template <typename Request>
base::Result<ExitCode> change(Context& context, const std::string& path, const Request& request) {
  const api::Json document = MESH_TRY(send(context, path, api::encode(request)));
  MESH_TRY(show<api::PauseView>(context, document, [&](const api::PauseView& view) {
    for (const api::PauseItem& item : view.items) {
      context.out << printable(item.target) << ": "
                  << (item.until.empty() ? "active" : "pass-through until " + format_time(item.until, base::wall_now()))
                  << '\n';
    }
  }));
  return ExitCode::kOk;
}

}  // namespace

base::Result<std::uint64_t> parse_duration_s(std::string_view text) {
  const auto wrong = [&](const char* why) {
    return base::fail(base::ErrorKind::kInvalid, fmt::format("read duration '{}': {}", text, why),
                      "write 90s, 10m, 1h30m or 2d");
  };
  constexpr std::uint64_t kMost = 10ULL * 365 * 24 * 3600;
  std::uint64_t total = 0;
  std::string_view rest = text;
  while (!rest.empty()) {
    std::uint64_t number = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), number);
    if (error != std::errc{} || number > kMost) return wrong("a number is expected");
    rest.remove_prefix(static_cast<std::size_t>(end - rest.data()));
    constexpr std::string_view kUnits = "smhd";
    constexpr std::uint64_t kSeconds[] = {1, 60, 3600, 86400};
    const auto unit = rest.empty() ? std::string_view::npos : kUnits.find(rest.front());
    if (unit == std::string_view::npos) return wrong("a unit s, m, h or d is expected");
    rest.remove_prefix(1);
    total += number * kSeconds[unit];
    if (total > kMost) return wrong("too long");
  }
  if (total == 0) return wrong("at least a second");
  return total;
}

void add_pause(CLI::App& app, Context& context) {
  auto* pause = app.add_subcommand("pause", "let connects pass untouched for a while");
  auto service = std::make_shared<std::string>();
  auto length = std::make_shared<std::string>("10m");
  pause->add_option("SERVICE", *service, "NAME, NAME:PORT or ADDR:PORT; the whole mesh without it");
  pause->add_option("--for", *length, "how long: 90s, 10m, 1h30m; at most 7d")->capture_default_str();
  pause->footer(
      "It reverts by itself, also if the agent dies meanwhile.\n"
      "Examples:\n  sudo meshctl pause --for 10m\n  sudo meshctl pause orders --for 1h\n  sudo meshctl resume");
  pause->callback([&context, service, length] {
    context.run = [&context, service, length]() -> base::Result<ExitCode> {
      return change(context, "/v1/pause",
                    api::PauseRequest{*service, service->empty(), MESH_TRY(parse_duration_s(*length))});
    };
  });

  auto* resume = app.add_subcommand("resume", "end a pause now");
  auto resumed = std::make_shared<std::string>();
  resume->add_option("SERVICE", *resumed, "NAME, NAME:PORT or ADDR:PORT; the whole mesh without it");
  resume->callback([&context, resumed] {
    context.run = [&context, resumed] {
      return change(context, "/v1/resume", api::ResumeRequest{*resumed, resumed->empty()});
    };
  });
}

}  // namespace mesh::cli

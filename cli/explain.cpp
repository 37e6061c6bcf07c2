// SPDX-License-Identifier: Apache-2.0
// `meshctl explain`: where would this connect() go, and why. The agent runs the pick on the live tables; who would
// connect (cgroup, network namespace, user) is found out here, because it is about a process of the caller.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <ostream>

#include "base/fd.hpp"
#include "cli/cgroup.hpp"
#include "cli/context.hpp"
#include "cli/views.hpp"

namespace mesh::cli {
namespace {

using api::EndpointView;
using api::ExplainResult;

constexpr std::size_t kEndpointsOnOneLine = 3;

std::string endpoint_part(const EndpointView& endpoint, const ViewOptions& options) {
  const Colour colour = endpoint.share > 0 ? Colour::kGreen : Colour::kRed;
  return printable(endpoint.address) + ' ' + paint(options.style, colour, format_percent(endpoint.share)) + ' ' +
         health_text(endpoint, options.now);
}

std::string pick_text(const ExplainResult& result) {
  if (result.pick.empty()) return "";
  if (result.choice == "rotation") return ", next " + result.pick;
  return ", always " + result.pick + (result.client_key.empty() ? "" : " for " + result.client_key);
}

std::string result_text(const ExplainResult& result, const ViewOptions& options) {
  std::string text;
  const bool one_line = !options.wide && result.endpoints.size() <= kEndpointsOnOneLine;
  if (result.service) {
    const api::ServiceView& service = *result.service;
    text += printable(service.name) + ' ' + printable(service.frontend) +
            (service.origin.empty() ? "" : " (" + printable(service.origin) + ")") + ' ' + service.algorithm;
    for (const EndpointView& endpoint : result.endpoints) {
      text += (one_line ? " | " : "\n  ") + endpoint_part(endpoint, options);
    }
    text += '\n';
  }
  text += (result.service ? "  " : "") + paint(options.style, colour_of_state(result.decision), result.decision);
  if (!result.why.empty()) text += ": " + printable(result.why);
  text += printable(pick_text(result)) + '\n';
  for (const std::string& line : result.said) text += "  said by " + printable(line) + '\n';
  return text;
}

bool is_pid(std::string_view text) {
  return !text.empty() && text.size() <= 9 && text.find_first_not_of("0123456789") == std::string_view::npos;
}

/// Who connects: `from` is a cgroup or a pid; empty: this process.
base::Result<QueryParameters> who(const std::string& from) {
  QueryParameters parameters;
  const pid_t pid = is_pid(from) ? std::stoi(from) : 0;
  const auto mount = find_cgroup_mount();
  if (!mount && !from.empty()) return std::unexpected(mount.error());
  if (from.empty() || pid != 0) {
    // What can't be found out about oneself is left out: the agent then says what it could not tell.
    const auto cgroup = mount ? cgroup_of(*mount, pid == 0 ? ::getpid() : pid) : std::unexpected(mount.error());
    if (!cgroup && pid != 0) return std::unexpected(cgroup.error());
    // Without --from the question is what a covered process would see: no cgroup path, so no verdict on ours.
    if (cgroup && pid != 0) parameters.emplace_back("cgroup", cgroup->path);
    if (cgroup) parameters.emplace_back("cgroup_id", std::to_string(cgroup->id));
    const auto cookie = netns_cookie_of(pid);
    if (cookie) parameters.emplace_back("netns_cookie", std::to_string(*cookie));
    struct stat status{};
    if (pid == 0) {
      parameters.emplace_back("uid", std::to_string(::geteuid()));
    } else if (::stat(fmt::format("/proc/{}", pid).c_str(), &status) == 0) {
      parameters.emplace_back("uid", std::to_string(status.st_uid));
    }
    return parameters;
  }
  const Cgroup cgroup = MESH_TRY(find_cgroup(*mount, from));
  parameters.emplace_back("cgroup", cgroup.path);
  parameters.emplace_back("cgroup_id", std::to_string(cgroup.id));
  // A cgroup's processes know their network namespace and user; the first one stands for them.
  const auto processes = base::read_file(cgroup.folder + "/cgroup.procs", 1 << 20);
  pid_t first = 0;
  if (processes) std::from_chars(processes->data(), processes->data() + processes->size(), first);
  if (const auto cookie = netns_cookie_of(first)) parameters.emplace_back("netns_cookie", std::to_string(*cookie));
  struct stat status{};
  if (first != 0 && ::stat(fmt::format("/proc/{}", first).c_str(), &status) == 0) {
    parameters.emplace_back("uid", std::to_string(status.st_uid));
  }
  return parameters;
}

struct Arguments {
  std::string target;
  std::string from;
  std::string source;
};

base::Result<ExitCode> run_explain(Context& context, const Arguments& arguments) {
  QueryParameters parameters = {{"target", arguments.target}, {"source_address", arguments.source}};
  for (auto& parameter : MESH_TRY(who(arguments.from))) parameters.push_back(std::move(parameter));
  const api::Json document = MESH_TRY(fetch(context, make_target("/v1/explain", parameters)));
  const auto view = MESH_TRY(show<api::ExplainView>(context, document, [&](const api::ExplainView& shown) {
    context.out << explain_text(shown, {context.style(), context.output == Output::kWide, base::wall_now()});
  }));
  const auto has = [&](std::string_view decision) {
    return std::any_of(view.results.begin(), view.results.end(), [&](const auto& r) { return r.decision == decision; });
  };
  if (has("refused")) return ExitCode::kDegraded;
  return has("balanced") || has("paused") || has("exempt") ? ExitCode::kOk : ExitCode::kNotFound;
}

}  // namespace

std::string explain_text(const api::ExplainView& view, const ViewOptions& options) {
  std::string text;
  for (const ExplainResult& result : view.results) text += result_text(result, options);
  if (view.results.empty()) text += printable(view.target) + ": no service\n";
  if (view.from_attached == false) {
    text += paint(options.style, Colour::kYellow, "note") + ": no hook covers " + printable(view.from) +
            ": its connects go untouched; add it, or a cgroup above it, to agent.cgroups\n";
  }
  return text;
}

void add_explain(CLI::App& app, Context& context) {
  auto* command = app.add_subcommand("explain", "where would connect() go, and why");
  auto arguments = std::make_shared<Arguments>();
  command->add_option("TARGET", arguments->target, "NAME, NAME:PORT, ADDR:PORT or URL")->required();
  command->add_option("--from", arguments->from,
                      "who connects: a cgroup (path or name) or a pid; default: anyone in a covered cgroup");
  command->add_option("--source", arguments->source, "address the socket is bound to, for hash_key source_address");
  command->footer(
      "Exit code 0 balanced, 3 it would be refused, 4 no service, or no hook where it connects.\n"
      "Examples:\n  meshctl explain orders --from shop.service\n  meshctl explain 240.64.0.10:80 --from 4711\n"
      "  meshctl explain http://240.64.0.10/ -o json");
  command->callback([&context, arguments] {
    context.watchable = true;
    context.run = [&context, arguments] { return run_explain(context, *arguments); };
  });
}

}  // namespace mesh::cli

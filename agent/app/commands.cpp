// SPDX-License-Identifier: Apache-2.0
#include "app/commands.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>

#include "api/bpf.hpp"
#include "api/codec.hpp"
#include "api/control.hpp"
#include "app/bpf_views.hpp"
#include "app/check.hpp"
#include "app/config.hpp"
#include "app/estimate.hpp"
#include "app/state_store.hpp"
#include "app/validate.hpp"
#include "app/version.hpp"
#include "datapath/canary.hpp"
#include "datapath/loader.hpp"
#include "datapath/own_cgroup.hpp"
#include "datapath/unreachable_route.hpp"

namespace mesh::app {
namespace {

int fail_with(const base::Error& error) {
  std::fprintf(stderr, "meshd: %s\n", error.to_string().c_str());
  return static_cast<int>(api::exit_code_for(error.kind));
}

template <typename View>
void print_json(const View& view) {
  std::puts(api::encode(view).c_str());
}

/// The defaults where the configuration can't be read, and then why not.
Config config_of(const CommandOptions& options, std::optional<base::Error>* unread = nullptr) {
  LoadResult loaded = load_config(options.config);
  if (unread != nullptr && !loaded.good()) {
    *unread = loaded.error();
    if ((*unread)->remedy.empty()) (*unread)->remedy = "name the configuration with --config";
  }
  Config config = loaded.good() ? std::move(loaded.config) : Config{};
  if (!options.bpffs.empty() && options.bpffs != config.agent.bpffs) {
    config.agent.bpffs = options.bpffs;
    config.agent.cgroups.clear();  // of another mesh
  }
  return config;
}

/// Where things are.
AgentSettings settings_of(const CommandOptions& options) { return config_of(options).agent; }

/// An agent that was killed leaves the leaves of its canary and its own cgroup, `agent_id`; rmdir takes only empty
/// ones.
void remove_own_cgroups(const std::string& cgroup_root, std::uint64_t agent_id) {
  std::error_code ignored;
  std::vector<std::filesystem::path> leaves;
  for (std::filesystem::recursive_directory_iterator
           it(cgroup_root, std::filesystem::directory_options::skip_permission_denied, ignored),
       end;
       it != end; it.increment(ignored)) {
    if (!it->is_directory(ignored)) continue;
    if (it->path().filename() == datapath::kCanaryLeaf || datapath::cgroup_id(it->path().string()) == agent_id) {
      leaves.push_back(it->path());
    }
  }
  for (const auto& leaf : leaves) ::rmdir(leaf.c_str());
}

}  // namespace

discovery::Restored restored_services(const std::string& state_dir) {
  auto saved = StateStore::load(state_dir);
  if (saved) return {std::move(saved->services), saved->saved_at};
  if (saved.error().kind != base::ErrorKind::kNotFound) {
    std::fprintf(stderr, "meshd: the last good state is not used: %s\n", saved.error().to_string().c_str());
  }
  return {};
}

int command_check(const CommandOptions& options) {
  std::optional<base::Error> unread;
  const Config config = config_of(options, &unread);
  const api::CheckReport report = check_host(config, unread);
  if (options.json) {
    print_json(report);
  } else {
    for (const auto& item : report.items) {
      std::printf("%-4s  %-14s %-20s %s\n", item.state.c_str(), item.group.c_str(), item.name.c_str(),
                  item.detail.c_str());
      if (!item.remedy.empty()) std::printf("      -> %s\n", item.remedy.c_str());
    }
  }
  return static_cast<int>(has_failures(report) ? api::ExitCode::kFailure : api::ExitCode::kOk);
}

int command_check_config(const CommandOptions& options) {
  const api::ValidateView view = validate_config(options.config);
  if (options.json) {
    print_json(view);
  } else {
    for (const std::string& line : lines_of(view)) std::puts(line.c_str());
  }
  return static_cast<int>(view.ok ? api::ExitCode::kOk : api::ExitCode::kBadConfig);
}

int command_detach(const CommandOptions& options) {
  const AgentSettings settings = settings_of(options);
  api::DetachView view;
  std::uint64_t own_cgroup = 0;
  if (const auto maps = datapath::open_pinned_maps(settings.bpffs, datapath::Access::kRead)) {
    own_cgroup = maps->control().exempt_cgroup_id;
  }
  const auto detached = datapath::detach_all(settings.bpffs);
  if (!detached && detached.error().kind != base::ErrorKind::kNotFound) return fail_with(detached.error());
  if (detached) {  // so no agent holds it
    view.removed.push_back(settings.bpffs);
    if (options.bpffs.empty()) {
      ::unlink(settings.socket.c_str());
      ::unlink((settings.run_dir + "/relay.sock").c_str());
    }
  }
  for (const discovery::VipRange& range : {settings.vips4, settings.vips6}) {
    if (const auto removed = datapath::remove_unreachable_route(range.ip, range.bits); !removed) {
      return fail_with(removed.error());
    }
  }
  if (const auto root = settings.cgroup_root.empty() ? datapath::find_cgroup2_mount()
                                                     : base::Result<std::string>(settings.cgroup_root)) {
    remove_own_cgroups(*root, own_cgroup);
  }
  if (options.json) {
    print_json(view);
  } else {
    std::printf(detached ? "removed %s\n" : "nothing is attached at %s\n", settings.bpffs.c_str());
  }
  return 0;
}

int command_dump(const CommandOptions& options) {
  const AgentSettings settings = settings_of(options);
  const auto maps = datapath::open_pinned_maps(settings.bpffs, datapath::Access::kRead);
  if (!maps) return fail_with(maps.error());
  const auto dump = dump_tables(*maps, settings.bpffs, {.table = options.table, .after = 0, .limit = UINT32_MAX});
  if (!dump) return fail_with(dump.error());
  if (options.json) {
    print_json(*dump);
    return 0;
  }
  std::printf("%s: layout %s, last applied %s (generation %llu) by meshd %s, process %u\n", dump->bpffs.c_str(),
              dump->control.layout.c_str(), dump->control.applied_at.c_str(),
              static_cast<unsigned long long>(dump->control.generation), dump->control.version.c_str(),
              dump->control.agent_pid);
  for (const auto& row : dump->frontends)
    std::printf("frontend %-28s service %u\n", row.frontend.c_str(), row.service_id);
  for (const auto& row : dump->services)
    std::printf("service %u %s range %u generation %u\n", row.id, row.frontend.c_str(), row.range_id, row.generation);
  for (const auto& row : dump->ranges)
    std::printf("range %u service %u %s %u entries from slot %u\n", row.id, row.service_id, row.algorithm.c_str(),
                row.count, row.base);
  for (const auto& row : dump->slots) std::printf("slot %u backend %u tag %u\n", row.index, row.backend_id, row.tag);
  for (const auto& row : dump->backends)
    std::printf("backend %u %s service %u weight %u %s opened %llu\n", row.id, row.address.c_str(), row.service_id,
                row.weight, row.usable ? "usable" : "not usable", static_cast<unsigned long long>(row.opened));
  for (const auto& row : dump->owners)
    std::printf("socket %llu %s -> %s process %u\n", static_cast<unsigned long long>(row.cookie), row.frontend.c_str(),
                row.backend.c_str(), row.pid);
  return 0;
}

int command_status(const CommandOptions& options) {
  const AgentSettings settings = settings_of(options);
  const auto maps = datapath::open_pinned_maps(settings.bpffs, datapath::Access::kRead);
  if (!maps) return fail_with(maps.error());
  const api::Status status = status_from_pins(*maps, settings);
  if (options.json) {
    print_json(status);
  } else {
    if (status.apply.last_apply_at.empty()) {
      std::printf("agent down; nothing was applied yet to the kernel tables of %s\n", status.bpffs.c_str());
    } else {
      std::printf("agent down; the kernel tables of %s were last applied %s by meshd %s\n", status.bpffs.c_str(),
                  status.apply.last_apply_at.c_str(), status.version.c_str());
    }
    for (const auto& hook : status.hooks)
      std::printf("%s %s: %s\n", hook.cgroup.c_str(), hook.hook.c_str(),
                  hook.effective.value_or(false) ? "effective" : "NOT EFFECTIVE");
  }
  return static_cast<int>(api::ExitCode::kDegraded);
}

int command_estimate(const CommandOptions& options) {
  const auto view = estimate_tables(options.services, options.endpoints, options.balance, settings_of(options).limits);
  if (!view) return fail_with(view.error());
  if (options.json) {
    print_json(*view);
    return 0;
  }
  std::printf("%-16s %12s %12s %10s  %s\n", "table", "needed", "size", "MiB", "setting");
  for (const auto& table : view->tables) {
    std::printf("%-16s %12s %12llu %10.1f  %s\n", table.table.c_str(),
                table.needed ? std::to_string(*table.needed).c_str() : "-", static_cast<unsigned long long>(table.size),
                static_cast<double>(table.bytes) / 1048576.0, table.setting.c_str());
  }
  if (!view->note.empty()) std::printf("note: %s\n", view->note.c_str());
  std::printf("kernel memory %.1f MiB, agent about %.1f MiB\n", static_cast<double>(view->kernel_bytes) / 1048576.0,
              static_cast<double>(view->agent_bytes) / 1048576.0);
  return 0;
}

int command_version(const CommandOptions& options) {
  const api::VersionView view = version_view();
  if (options.json) {
    print_json(view);
  } else {
    std::printf("meshd %s, tables %s, %s\n", view.version.c_str(), view.layout.c_str(), view.compiler.c_str());
  }
  return 0;
}

int command_schema(const CommandOptions&) {
  std::puts(config_schema().c_str());
  return 0;
}

}  // namespace mesh::app

// SPDX-License-Identifier: Apache-2.0
#include "datapath/hooks.hpp"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <optional>
#include <set>

#include "datapath/client_identity.hpp"
#include "datapath/own_cgroup.hpp"
#include "datapath/pin_directory.hpp"
#include "mesh_abi.h"

namespace mesh::datapath {
namespace {

constexpr std::uint32_t kProgramsMax = 512;  // on one hook of one cgroup, outer ones included (the kernel allows 64)
constexpr std::uint32_t kProgramMapsMax = 64;

std::string pin_name(std::uint64_t cgroup_id, std::size_t hook) {
  return std::to_string(cgroup_id) + "-" + std::string(kHooks[hook].name);
}

struct LinkInfo {
  std::uint32_t id = 0;
  std::uint32_t program_id = 0;
  std::uint64_t cgroup_id = 0;
};

base::Result<LinkInfo> link_info(int fd) {
  bpf_link_info info{};
  std::uint32_t length = sizeof(info);
  if (::bpf_obj_get_info_by_fd(fd, &info, &length) != 0) return base::fail_errno(errno, "read a BPF link");
  return LinkInfo{info.id, info.prog_id, info.cgroup.cgroup_id};
}

/// The control map of a mesh, read through one of its programs.
struct MeshControl {
  std::uint32_t map_id = 0;
  std::string holder;
  std::uint32_t pid = 0;
};

std::optional<MeshControl> control_of(const ProgramInfo& program) {
  for (const std::uint32_t id : program.map_ids) {
    const base::Fd fd(::bpf_map_get_fd_by_id(id));
    if (!fd.valid()) continue;
    bpf_map_info info{};
    std::uint32_t length = sizeof(info);
    if (::bpf_obj_get_info_by_fd(fd.get(), &info, &length) != 0 || std::string_view(info.name) != "control") continue;
    std::vector<std::byte> value(std::max<std::size_t>(info.value_size, sizeof(mesh_control)));
    const std::uint32_t zero = 0;
    if (::bpf_map_lookup_elem(fd.get(), &zero, value.data()) != 0) continue;
    mesh_control control{};
    std::memcpy(&control, value.data(), sizeof(control));
    if (control.magic != MESH_LAYOUT_MAGIC) continue;
    return MeshControl{id, std::string(control.holder, ::strnlen(control.holder, sizeof(control.holder))),
                       control.agent_pid};
  }
  return std::nullopt;
}

base::Result<void> refuse_foreign_program(std::uint32_t program_id, const std::string& cgroup,
                                          const std::set<std::uint32_t>& own_programs,
                                          const std::vector<std::uint32_t>& own_control_ids) {
  if (own_programs.contains(program_id)) return {};
  const auto program = program_info(program_id);
  if (!program || !program->name.starts_with("mesh_")) return {};  // gone meanwhile, or somebody else's
  const auto control = control_of(*program);
  if (!control || std::ranges::find(own_control_ids, control->map_id) != own_control_ids.end()) return {};
  return base::fail(
      base::ErrorKind::kConflict,
      "attach to cgroup " + cgroup + ": it is served by the meshd whose pins are in " + control->holder +
          " (last agent: process " + std::to_string(control->pid) + ")",
      "stop that one and run `meshd detach --bpffs " + control->holder + "`, or choose other cgroups in agent.cgroups");
}

std::set<std::uint32_t> own_programs(const std::string& links_folder) {
  std::set<std::uint32_t> ids;
  for (const PinnedLink& link : read_pinned_links(links_folder)) ids.insert(link.program_id);
  return ids;
}

}  // namespace

std::vector<std::string> collapse_cgroups(const std::vector<std::string>& paths) {
  std::vector<std::string> normal;
  for (std::string path : paths) {
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    if (!path.starts_with('/')) path.insert(0, "/");
    normal.push_back(std::move(path));
  }
  std::ranges::sort(normal);
  const auto repeated = std::ranges::unique(normal);
  normal.erase(repeated.begin(), repeated.end());
  std::vector<std::string> outer;
  for (const std::string& path : normal) {
    const bool inside =
        std::ranges::any_of(normal, [&](const std::string& other) { return other != path && is_within(path, other); });
    if (!inside) outer.push_back(path);
  }
  return outer;
}

base::Result<Cgroup> open_cgroup(const std::string& cgroup_root, const std::string& path) {
  Cgroup cgroup;
  cgroup.path = path;
  const std::string folder = path == "/" ? cgroup_root : cgroup_root + path;
  cgroup.fd.reset(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup.fd.valid()) {
    return base::fail_errno(errno, "open cgroup " + folder,
                            errno == ENOENT ? "it is attached to as soon as it exists; check agent.cgroups" : "");
  }
  cgroup.id = MESH_TRY(cgroup_id(folder));
  return cgroup;
}

base::Duration boot_time() {
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

base::Result<ProgramInfo> program_info(std::uint32_t id) {
  const base::Fd fd(::bpf_prog_get_fd_by_id(id));
  if (!fd.valid()) return base::fail_errno(errno, "open BPF program " + std::to_string(id));
  std::vector<std::uint32_t> maps(kProgramMapsMax);
  bpf_prog_info info{};
  info.nr_map_ids = kProgramMapsMax;
  info.map_ids = reinterpret_cast<std::uintptr_t>(maps.data());
  std::uint32_t length = sizeof(info);
  if (::bpf_obj_get_info_by_fd(fd.get(), &info, &length) != 0) {
    return base::fail_errno(errno, "read BPF program " + std::to_string(id));
  }
  maps.resize(std::min(info.nr_map_ids, kProgramMapsMax));
  return ProgramInfo{.id = info.id,
                     .name = info.name,
                     .loaded_at = std::chrono::nanoseconds(info.load_time),
                     .map_ids = std::move(maps),
                     .runs = info.run_cnt,
                     .run_time_ns = info.run_time_ns,
                     .misses = info.recursion_misses,
                     .instructions = info.verified_insns};
}

base::Result<std::vector<std::uint32_t>> query_programs(int cgroup_fd, bpf_attach_type type, Reach reach) {
  std::vector<std::uint32_t> ids(kProgramsMax);
  std::uint32_t count = kProgramsMax;
  const std::uint32_t flags = reach == Reach::kEffective ? BPF_F_QUERY_EFFECTIVE : 0;
  if (::bpf_prog_query(cgroup_fd, type, flags, nullptr, ids.data(), &count) != 0) {
    return base::fail_errno(errno, "ask the kernel for a cgroup's programs");
  }
  ids.resize(count);
  return ids;
}

std::vector<PinnedLink> read_pinned_links(const std::string& links_folder) {
  std::vector<PinnedLink> links;
  for (const std::string& name : list_folder(links_folder)) {
    PinnedLink link;
    link.path = links_folder + "/" + name;
    const auto dash = name.find('-');
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), link.cgroup_id);
    if (error != std::errc() || dash == std::string::npos) continue;
    const auto hook = std::ranges::find(kHooks, std::string_view(name).substr(dash + 1), &Hook::name);
    if (hook == kHooks.end()) continue;
    link.hook = static_cast<std::size_t>(hook - kHooks.begin());
    link.fd.reset(::bpf_obj_get(link.path.c_str()));
    if (link.fd.valid()) {
      if (const auto info = link_info(link.fd.get())) {
        link.link_id = info->id;
        link.program_id = info->program_id;
        link.live = info->cgroup_id == link.cgroup_id;  // 0 when the cgroup was removed
      }
    }
    links.push_back(std::move(link));
  }
  return links;
}

base::Result<void> attach_hook(const std::string& links_folder, const Cgroup& cgroup, std::size_t hook, int program_fd,
                               const BeforeLink& before) {
  const std::string pin = links_folder + "/" + pin_name(cgroup.id, hook);
  const std::string what = "attach " + std::string(kHooks[hook].name) + " to cgroup " + cgroup.path;
  if (before) MESH_CHECK(before(pin));
  const base::Fd pinned(::bpf_obj_get(pin.c_str()));
  if (pinned.valid()) {
    const LinkInfo info = MESH_TRY(link_info(pinned.get()));
    if (info.cgroup_id == cgroup.id) {
      if (::bpf_link_update(pinned.get(), program_fd, nullptr) != 0) return base::fail_errno(errno, what);
      return {};
    }
    if (::unlink(pin.c_str()) != 0) return base::fail_errno(errno, "remove dead link " + pin);
  }
  const base::Fd link(::bpf_link_create(program_fd, cgroup.fd.get(), kHooks[hook].type, nullptr));
  if (!link.valid()) {
    return base::fail_errno(errno, what,
                            errno == EPERM || errno == EBUSY
                                ? "another program is attached there exclusively; see `bpftool cgroup show`"
                                : "");
  }
  if (::bpf_obj_pin(link.get(), pin.c_str()) != 0) return base::fail_errno(errno, "pin " + pin);
  return {};
}

base::Result<void> detach_others(const std::string& links_folder, const std::vector<std::uint64_t>& keep) {
  for (const PinnedLink& link : read_pinned_links(links_folder)) {
    if (link.live && std::ranges::find(keep, link.cgroup_id) != keep.end()) continue;
    // The last reference alone would detach it too, but later, from a kernel worker.
    if (link.live && ::bpf_link_detach(link.fd.get()) != 0) return base::fail_errno(errno, "detach " + link.path);
    if (::unlink(link.path.c_str()) != 0) return base::fail_errno(errno, "remove link " + link.path);
  }
  return {};
}

std::vector<HookStatus> hook_status(const std::string& links_folder, const std::string& cgroup_root,
                                    const std::vector<std::string>& cgroups) {
  const std::vector<PinnedLink> links = read_pinned_links(links_folder);
  const base::Duration now = boot_time();
  std::vector<HookStatus> result;
  for (const std::string& path : cgroups) {
    const auto cgroup = open_cgroup(cgroup_root, path);
    for (std::size_t hook = 0; hook < kHooks.size(); ++hook) {
      HookStatus status;
      status.cgroup = path;
      status.hook = kHooks[hook].name;
      if (!cgroup) {
        status.error = cgroup.error().message;
        result.push_back(std::move(status));
        continue;
      }
      status.cgroup_id = cgroup->id;
      const auto link = std::ranges::find_if(
          links, [&](const PinnedLink& one) { return one.live && one.hook == hook && one.cgroup_id == cgroup->id; });
      if (link == links.end()) {
        status.error = "not attached";
        result.push_back(std::move(status));
        continue;
      }
      status.attached = true;
      status.link_id = link->link_id;
      status.program_id = link->program_id;
      if (const auto program = program_info(link->program_id)) status.program_age = now - program->loaded_at;
      const auto running = query_programs(cgroup->fd.get(), kHooks[hook].type, Reach::kEffective);
      status.effective = running && std::ranges::find(*running, link->program_id) != running->end();
      if (!running) status.error = running.error().message;
      result.push_back(std::move(status));
    }
  }
  return result;
}

base::Result<std::vector<OtherProgram>> other_programs(const std::string& links_folder, const std::string& cgroup_root,
                                                       const std::vector<std::string>& cgroups) {
  const std::set<std::uint32_t> ours = own_programs(links_folder);
  std::vector<OtherProgram> others;
  for (const std::string& path : collapse_cgroups(cgroups)) {
    const Cgroup cgroup = MESH_TRY(open_cgroup(cgroup_root, path));
    for (const Hook& hook : kHooks) {
      const auto direct = MESH_TRY(query_programs(cgroup.fd.get(), hook.type, Reach::kDirect));
      for (const std::uint32_t id : MESH_TRY(query_programs(cgroup.fd.get(), hook.type, Reach::kEffective))) {
        if (ours.contains(id)) continue;
        const auto program = program_info(id);
        if (!program) continue;  // gone meanwhile
        const bool inherited = std::ranges::find(direct, id) == direct.end();
        others.push_back({path, hook.name, id, program->name, inherited});
      }
    }
  }
  return others;
}

base::Result<void> refuse_foreign_mesh(const std::string& links_folder, const std::string& cgroup_root,
                                       const std::vector<std::string>& cgroups,
                                       const std::vector<std::uint32_t>& own_control_ids) {
  const std::set<std::uint32_t> ours = own_programs(links_folder);
  constexpr bpf_attach_type kProof = BPF_CGROUP_INET4_CONNECT;  // every mesh has this one
  for (const std::string& path : cgroups) {
    const auto cgroup = open_cgroup(cgroup_root, path);
    if (!cgroup) continue;  // attached to later
    for (const std::uint32_t id : MESH_TRY(query_programs(cgroup->fd.get(), kProof, Reach::kEffective))) {
      MESH_CHECK(refuse_foreign_program(id, path, ours, own_control_ids));
    }
    std::error_code error;
    const std::string folder = path == "/" ? cgroup_root : cgroup_root + path;
    using std::filesystem::recursive_directory_iterator;
    for (recursive_directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
      std::error_code not_a_folder;
      if (!entry->is_directory(not_a_folder)) continue;
      const std::string below = entry->path().string();
      const base::Fd fd(::open(below.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (!fd.valid()) continue;  // removed meanwhile
      for (const std::uint32_t id : MESH_TRY(query_programs(fd.get(), kProof, Reach::kDirect))) {
        MESH_CHECK(refuse_foreign_program(id, below.substr(cgroup_root.size()), ours, own_control_ids));
      }
    }
  }
  return {};
}

}  // namespace mesh::datapath

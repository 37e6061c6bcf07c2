// SPDX-License-Identifier: Apache-2.0
// The programs' attachments: bpf_links on cgroups, pinned, so that they live without an agent. Only our own links are
// made, updated and removed; what others attached is looked at and left alone.
#pragma once

#include <linux/bpf.h>

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"

namespace mesh::datapath {

struct Hook {
  std::string_view name;  ///< Also in the name of the pin: "connect4".
  bpf_attach_type type;
  std::string_view program;  ///< "mesh_connect4"
  std::string_view moving;   ///< In its place while the owner map is being moved; empty: the same.
};

/// In the order of attachment: what answers for a connection is there before the first connection is made.
inline constexpr std::array<Hook, 9> kHooks{{
    {"release", BPF_CGROUP_INET_SOCK_RELEASE, "mesh_release", "mesh_mv_release"},
    {"getpeername4", BPF_CGROUP_INET4_GETPEERNAME, "mesh_peername4", "mesh_mv_peer4"},
    {"getpeername6", BPF_CGROUP_INET6_GETPEERNAME, "mesh_peername6", "mesh_mv_peer6"},
    {"recvmsg4", BPF_CGROUP_UDP4_RECVMSG, "mesh_recvmsg4", "mesh_mv_recv4"},
    {"recvmsg6", BPF_CGROUP_UDP6_RECVMSG, "mesh_recvmsg6", "mesh_mv_recv6"},
    {"connect4", BPF_CGROUP_INET4_CONNECT, "mesh_connect4", ""},
    {"connect6", BPF_CGROUP_INET6_CONNECT, "mesh_connect6", ""},
    {"sendmsg4", BPF_CGROUP_UDP4_SENDMSG, "mesh_sendmsg4", ""},
    {"sendmsg6", BPF_CGROUP_UDP6_SENDMSG, "mesh_sendmsg6", ""},
}};

/// A cgroup we attach to, opened.
struct Cgroup {
  std::string path;  ///< Below the mount: "/system.slice/shop.service", "/" for all.
  std::uint64_t id = 0;
  base::Fd fd;
};

/// Normalises ("shop/" -> "/shop") and drops whatever lies below another entry. Order and duplicates don't matter.
std::vector<std::string> collapse_cgroups(const std::vector<std::string>& paths);
base::Result<Cgroup> open_cgroup(const std::string& cgroup_root, const std::string& path);

struct ProgramInfo {
  std::uint32_t id = 0;
  std::string name;
  std::chrono::nanoseconds loaded_at{};  ///< Since boot (CLOCK_BOOTTIME).
  std::vector<std::uint32_t> map_ids;
  std::uint64_t runs = 0;  ///< Counted only while kernel.bpf_stats_enabled is 1, as the next.
  std::uint64_t run_time_ns = 0;
  std::uint64_t misses = 0;
  std::uint64_t instructions = 0;  ///< As the verifier walked them.
};
base::Result<ProgramInfo> program_info(std::uint32_t id);
base::Duration boot_time();  ///< Now, on the clock of `loaded_at`.

enum class Reach : std::uint8_t {
  kDirect,     ///< Attached to this very cgroup.
  kEffective,  ///< What runs there, from outer cgroups too.
};
base::Result<std::vector<std::uint32_t>> query_programs(int cgroup_fd, bpf_attach_type type, Reach reach);

/// One of our pinned links.
struct PinnedLink {
  std::string path;
  std::uint64_t cgroup_id = 0;  ///< From the pin's name.
  std::size_t hook = 0;         ///< Index into kHooks.
  base::Fd fd;
  std::uint32_t link_id = 0;
  std::uint32_t program_id = 0;
  bool live = false;  ///< False: its cgroup is gone, and the link with it.
};
std::vector<PinnedLink> read_pinned_links(const std::string& links_folder);

/// Called before every single change of a link, with the pin's path; an error stops there. A test dies there.
using BeforeLink = std::function<base::Result<void>(const std::string& pin)>;

/// Attaches `program_fd` to one hook of one cgroup, or updates the link that is there in place.
base::Result<void> attach_hook(const std::string& links_folder, const Cgroup& cgroup, std::size_t hook, int program_fd,
                               const BeforeLink& before);

/// Removes our links on cgroups that are not in `keep`, and those whose cgroup is gone.
base::Result<void> detach_others(const std::string& links_folder, const std::vector<std::uint64_t>& keep);

struct HookStatus {
  std::string cgroup;
  std::uint64_t cgroup_id = 0;
  std::string_view hook;
  std::uint32_t link_id = 0;
  std::uint32_t program_id = 0;
  base::Duration program_age{};
  bool attached = false;   ///< A live link of ours is there.
  bool effective = false;  ///< The kernel says that the link's program runs in that cgroup.
  std::string error;       ///< Why not, where that is known.
};
std::vector<HookStatus> hook_status(const std::string& links_folder, const std::string& cgroup_root,
                                    const std::vector<std::string>& cgroups);

/// A program on one of our hooks that isn't ours.
struct OtherProgram {
  std::string cgroup;
  std::string_view hook;
  std::uint32_t program_id = 0;
  std::string name;
  bool inherited = false;  ///< Attached to an outer cgroup.
};
/// Works without an agent; `links_folder` may not exist.
base::Result<std::vector<OtherProgram>> other_programs(const std::string& links_folder, const std::string& cgroup_root,
                                                       const std::vector<std::string>& cgroups);

/// Fails with kConflict if a mesh that isn't ours serves one of the cgroups, an outer one or one below, and names its
/// directory. `own_control_ids`: map ids of our control maps.
base::Result<void> refuse_foreign_mesh(const std::string& links_folder, const std::string& cgroup_root,
                                       const std::vector<std::string>& cgroups,
                                       const std::vector<std::uint32_t>& own_control_ids);

}  // namespace mesh::datapath

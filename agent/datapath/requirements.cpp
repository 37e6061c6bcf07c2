// SPDX-License-Identifier: Apache-2.0
#include "datapath/requirements.hpp"

#include <bpf/libbpf.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "datapath/own_cgroup.hpp"
#include "datapath/programs.hpp"

namespace mesh::datapath {
namespace {

constexpr int kNeededMajor = 5;  // 5.12: atomics with a result; all hooks and links are older
constexpr int kNeededMinor = 12;

Requirement kernel_version() {
  utsname name{};
  ::uname(&name);
  int major = 0;
  int minor = 0;
  std::sscanf(name.release, "%d.%d", &major, &minor);
  Requirement result{"kernel", Fitness::kOk, std::string("Linux ") + name.release + " " + name.machine, {}};
  if (std::pair(major, minor) < std::pair(kNeededMajor, kNeededMinor)) {
    result.fitness = Fitness::kMissing;
    result.remedy = "use Linux 5.12 or newer (Debian 12 has 6.1)";
  }
  return result;
}

/// Effective capabilities; CAP_BPF and CAP_PERFMON are split from CAP_SYS_ADMIN since 5.8.
Requirement privileges() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3]{};
  ::syscall(SYS_capget, &header, data);
  const auto has = [&](unsigned capability) {
    return (data[capability / 32].effective & (1U << (capability % 32))) != 0;
  };
  const bool enough = has(CAP_SYS_ADMIN) || (has(CAP_BPF) && has(CAP_NET_ADMIN) && has(CAP_PERFMON));
  if (enough) return {"privileges", Fitness::kOk, "may load BPF programs", {}};
  return {"privileges", Fitness::kMissing, "this process may not load BPF programs",
          "run as root, or with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN"};
}

Requirement cgroup2(std::string root) {
  if (root.empty()) {
    auto found = find_cgroup2_mount();
    if (!found) return {"cgroup2", Fitness::kMissing, found.error().message, found.error().remedy};
    root = *found;
  }
  struct statfs status{};
  if (::statfs(root.c_str(), &status) == 0 && status.f_type == CGROUP2_SUPER_MAGIC) {
    return {"cgroup2", Fitness::kOk, "mounted at " + root, {}};
  }
  return {"cgroup2", Fitness::kMissing, root + " is not a cgroup2 mount",
          "set agent.cgroup_root, or mount cgroup2 there"};
}

Requirement bpffs(const std::string& directory) {
  std::string folder = directory;
  while (folder.size() > 1 && ::access(folder.c_str(), F_OK) != 0)
    folder.resize(std::max<std::size_t>(folder.rfind('/'), 1));
  struct statfs status{};
  if (::statfs(folder.c_str(), &status) == 0 && status.f_type == BPF_FS_MAGIC) {
    return {"bpffs", Fitness::kOk, directory + " is on a bpffs", {}};
  }
  if (directory.starts_with("/sys/fs/bpf/")) {
    return {"bpffs", Fitness::kDegraded, "no bpffs at /sys/fs/bpf yet; meshd mounts it at its start",
            "or mount it: mount -t bpf bpf /sys/fs/bpf"};
  }
  return {"bpffs", Fitness::kMissing, directory + " is not on a bpffs", "mount -t bpf bpf " + folder};
}

Requirement btf() {
  if (::access("/sys/kernel/btf/vmlinux", R_OK) == 0)
    return {"btf", Fitness::kOk, "the kernel describes its types", {}};
  return {"btf", Fitness::kMissing, "/sys/kernel/btf/vmlinux is missing: the programs can't be fitted to this kernel",
          "use a kernel with CONFIG_DEBUG_INFO_BTF"};
}

Requirement hooks() {
  for (const bpf_prog_type type : {BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_PROG_TYPE_CGROUP_SOCK}) {
    if (::libbpf_probe_bpf_prog_type(type, nullptr) != 1) {
      return {"hooks", Fitness::kMissing, "the kernel loads no cgroup socket programs",
              "use a kernel with CONFIG_CGROUP_BPF and CONFIG_BPF_SYSCALL, as every distribution's is"};
    }
  }
  return {"hooks", Fitness::kOk, "cgroup socket programs load", {}};
}

constexpr const char* kWithoutKill =
    "connections to drained endpoints are reset by sock_diag, which has to list all sockets: no bpf_sock_destroy";
constexpr const char* kWithoutCensus =
    "records that nobody ended (of the kernel's own sockets) are not found: no iterators over sockets and files";
constexpr const char* kWithoutGuard =
    "plaintext to workloads of relay.mesh.services is neither counted nor refused: sk_lookup programs don't see enough";
constexpr const char* kWithoutTracing =
    "no connect latency, and how a connection failed is guessed when it is closed: no programs on tracepoints";

}  // namespace

std::vector<Requirement> probe_requirements(const std::string& cgroup_root, const std::string& bpffs_directory) {
  std::vector<Requirement> result{kernel_version(), privileges(), cgroup2(cgroup_root), bpffs(bpffs_directory), btf()};
  if (result[1].fitness == Fitness::kMissing) return result;  // what the kernel has, it says only to the privileged
  result.push_back(hooks());
  const KernelFeatures features = probe_kernel_features(embedded_image());
  const auto add = [&](const char* name, bool has, const char* with, const char* without, const char* remedy) {
    result.push_back(has ? Requirement{name, Fitness::kOk, with, {}}
                         : Requirement{name, Fitness::kDegraded, without, remedy});
    for (const auto& refusal : features.refused) {
      if (refusal.feature != name) continue;
      result.back().detail += ": " + refusal.why;
      result.back().remedy = "use another kernel; report this one, with its configuration";
    }
  };
  add("econnrefused", features.retval, "a refused connect() sees ECONNREFUSED",
      "a refused connect() sees EPERM: the kernel has no bpf_set_retval", "use Linux 5.18 or newer");
  add("explain", features.explain, "explain runs the real pick", "explain can't run the real pick: no syscall programs",
      "use Linux 5.14 or newer");
  add("kill", features.kill, "connections are reset by the kernel programs", kWithoutKill, "use Linux 6.5 or newer");
  add("census", features.census, "records whose socket is gone are found and freed", kWithoutCensus,
      "use Linux 5.11 or newer");
  add("guard", features.guard, "plaintext to workloads of the mesh can be counted and refused", kWithoutGuard,
      "use Linux 5.17 or newer");
  add("tracing", features.tracing, "connect latency and errors are seen when they happen", kWithoutTracing,
      "use Linux 5.14 or newer");
  return result;
}

}  // namespace mesh::datapath

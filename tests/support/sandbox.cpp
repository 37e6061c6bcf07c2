// SPDX-License-Identifier: Apache-2.0
#include "tests/support/sandbox.hpp"

#include <fcntl.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "datapath/own_cgroup.hpp"

namespace mesh::test {
namespace {

[[noreturn]] void give_up(const std::string& doing) { throw std::runtime_error(doing + ": " + std::strerror(errno)); }

void write_line(const std::string& path, const std::string& line) {
  const base::Fd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!fd.valid() || ::write(fd.get(), line.data(), line.size()) < 0) give_up("write " + path);
}

/// Removes the cgroups of test processes that crashed.
void sweep_dead_cgroups(const std::string& root) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(root, error)) {
    int pid = 0;
    const std::string name = entry.path().filename().string();
    if (std::sscanf(name.c_str(), "meshd-test-%d-", &pid) != 1 || ::kill(pid, 0) == 0 || errno != ESRCH) continue;
    for (const auto& child : std::filesystem::directory_iterator(entry.path(), error)) ::rmdir(child.path().c_str());
    ::rmdir(entry.path().c_str());
  }
}

void bring_loopback_up() {
  const base::Fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  if (::ioctl(fd.get(), SIOCSIFFLAGS, &request) != 0) give_up("set lo up");
}

}  // namespace

NetNs::NetNs() : old_(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC)) {
  if (!old_.valid()) give_up("open the network namespace");
  if (::unshare(CLONE_NEWNET) != 0) give_up("unshare the network namespace");
  bring_loopback_up();
}

NetNs::~NetNs() { ::setns(old_.get(), CLONE_NEWNET); }

const std::string& Cgroup::root() {
  static const std::string mount = [] {
    auto found = datapath::find_cgroup2_mount();
    if (!found) throw std::runtime_error(found.error().to_string());
    return *found;
  }();
  return mount;
}

Cgroup::Cgroup(const std::string& name, const Cgroup* parent) {
  static int number = 0;
  if (number == 0) sweep_dead_cgroups(root());
  path_ = parent != nullptr ? parent->path_ + "/" + name
                            : "/meshd-test-" + std::to_string(::getpid()) + "-" + std::to_string(++number) + "-" + name;
  if (::mkdir(folder().c_str(), 0755) != 0) give_up("create cgroup " + folder());
}

Cgroup::~Cgroup() {
  leave();
  // The kernel lets a cgroup go a moment after its last process has left.
  for (int attempt = 0; attempt < 200 && ::rmdir(folder().c_str()) != 0 && errno == EBUSY; ++attempt) ::usleep(5000);
}

void Cgroup::enter() const { write_line(folder() + "/cgroup.procs", "0"); }
void Cgroup::leave() { write_line(root() + "/cgroup.procs", "0"); }
std::string Cgroup::folder() const { return root() + path_; }

std::uint64_t Cgroup::id() const {
  struct stat status{};
  if (::stat(folder().c_str(), &status) != 0) give_up("look at cgroup " + folder());
  return status.st_ino;
}

BpffsMount::BpffsMount() {
  // In a mount namespace of its own, so that the mount, and with it every pin and link, ends with a process that
  // crashes.
  if (::unshare(CLONE_NEWNS) != 0) give_up("unshare the mount namespace");
  if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) give_up("make the mounts private");
  char name[] = "/tmp/meshd-test-bpffs-XXXXXX";
  if (::mkdtemp(name) == nullptr) give_up("make a temporary folder");
  folder_ = name;
  if (::mount("bpf", folder_.c_str(), "bpf", 0, nullptr) != 0) give_up("mount a bpffs at " + folder_);
}

BpffsMount::~BpffsMount() {
  ::umount2(folder_.c_str(), MNT_DETACH);
  ::rmdir(folder_.c_str());
}

std::string Sandbox::unavailable() {
  if (::geteuid() != 0) return "needs root";
  union bpf_attr attributes{};
  attributes.map_type = BPF_MAP_TYPE_ARRAY;
  attributes.key_size = 4;
  attributes.value_size = 8;
  attributes.max_entries = 1;
  const base::Fd map(static_cast<int>(::syscall(SYS_bpf, BPF_MAP_CREATE, &attributes, sizeof(attributes))));
  if (!map.valid()) return std::string("the kernel allows no BPF maps: ") + std::strerror(errno);
  if (auto mount = datapath::find_cgroup2_mount(); !mount) return mount.error().to_string();
  return {};
}

}  // namespace mesh::test

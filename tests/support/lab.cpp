// SPDX-License-Identifier: Apache-2.0
#include "tests/support/lab.hpp"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>

namespace mesh::test {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "meshlab-";
constexpr const char* kNamespaces = "/run/netns";

std::string find_cgroup2() {
  std::ifstream mounts("/proc/mounts");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string device;
    std::string folder;
    std::string type;
    fields >> device >> folder >> type;
    if (type == "cgroup2") return folder;
  }
  return {};
}

/// The pid in "meshlab-<pid>-<number>..."; 0 for other names.
pid_t owner_of(const std::string& name) {
  if (!name.starts_with(kPrefix)) return 0;
  pid_t pid = 0;
  std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), pid);
  return pid;
}

bool is_orphan(const std::string& name) {
  const pid_t pid = owner_of(name);
  return pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH;
}

/// Ends all processes in the cgroup and below, and removes it.
void remove_cgroup(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(folder, error)) return;
  std::ofstream(folder / "cgroup.kill") << "1";
  const bool empty = eventually(std::chrono::seconds(5), [&] {
    std::ifstream events(folder / "cgroup.events");
    std::string text((std::istreambuf_iterator<char>(events)), {});
    return text.find("populated 0") != std::string::npos;
  });
  if (!empty) std::fprintf(stderr, "lab: processes in %s do not end\n", folder.c_str());
  std::vector<fs::path> folders{folder};
  for (const auto& entry :
       fs::recursive_directory_iterator(folder, fs::directory_options::skip_permission_denied, error)) {
    if (entry.is_directory(error)) folders.push_back(entry.path());
  }
  std::sort(folders.begin(), folders.end(),
            [](const auto& a, const auto& b) { return a.native().size() > b.native().size(); });
  for (const fs::path& each : folders) ::rmdir(each.c_str());
}

void remove_folder(const fs::path& folder) {
  std::error_code error;
  ::umount2((folder / "bpffs").c_str(), MNT_DETACH);
  fs::remove_all(folder, error);
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) names.push_back(entry.path().filename());
  return names;
}

void sweep(const std::string& cgroup_root) {
  for (const std::string& name : names_in(cgroup_root)) {
    if (is_orphan(name)) remove_cgroup(fs::path(cgroup_root) / name);
  }
  for (const std::string& name : names_in(kNamespaces)) {
    if (is_orphan(name)) run({"ip", "netns", "del", name});
  }
  for (const std::string& name : names_in(fs::temp_directory_path())) {
    if (is_orphan(name)) remove_folder(fs::temp_directory_path() / name);
  }
}

void ip_batch(const std::string& netns, const std::string& commands) {
  const fs::path file = fs::temp_directory_path() / (netns + ".ip");
  std::ofstream(file) << commands;
  std::vector<std::string> argv{"ip"};
  if (!netns.empty()) argv.insert(argv.end(), {"-n", netns});
  argv.insert(argv.end(), {"-batch", file});
  const Output output = run(argv);
  fs::remove(file);
  if (output.code != 0) throw std::runtime_error("ip in " + netns + ": " + output.errors + "for: " + commands);
}

/// Tries what a lab needs: containers and hardened hosts refuse one or the other even to root.
std::string find_obstacle() {
  if (::geteuid() != 0) return "needs root: network namespaces, cgroups and BPF";
  if (!have_program("ip")) return "needs the program ip (package iproute2; scripts/setup installs it)";
  const std::string cgroup_root = find_cgroup2();
  if (cgroup_root.empty()) return "no cgroup2 mount in /proc/mounts";
  const std::string cgroup = cgroup_root + "/" + std::string(kPrefix) + std::to_string(::getpid()) + "-try";
  if (::mkdir(cgroup.c_str(), 0755) != 0)
    return "can't make a cgroup below " + cgroup_root + ": " + std::strerror(errno);
  ::rmdir(cgroup.c_str());
  if (Process::start({}, [] { return ::unshare(CLONE_NEWNET) == 0 ? 0 : 1; }).wait(std::chrono::seconds(5)) != 0) {
    return "this machine refuses new network namespaces";
  }
  constexpr std::array<bpf_insn, 2> kReturnOne{
      bpf_insn{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
      bpf_insn{.code = BPF_JMP | BPF_EXIT}};
  bpf_prog_load_opts options{};
  options.sz = sizeof options;
  options.expected_attach_type = BPF_CGROUP_INET4_CONNECT;
  const base::Fd program(
      ::bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "try", "GPL", kReturnOne.data(), kReturnOne.size(), &options));
  if (!program.valid()) return std::string("this machine refuses BPF programs: ") + std::strerror(errno);
  return {};
}

}  // namespace

void Host::black_hole(const Host& other) const {
  ip_batch(netns_name_, "route add blackhole " + other.v4_ + "/32\nroute add blackhole " + other.v6_ + "/128\n");
}

void Host::mend(const Host& other) const {
  ip_batch(netns_name_, "route del blackhole " + other.v4_ + "/32\nroute del blackhole " + other.v6_ + "/128\n");
}

std::string Lab::unavailable() {
  static const std::string reason = find_obstacle();
  return reason;
}

Lab::Lab() : cgroup_root_(find_cgroup2()) {
  static int labs = 0;
  if (const std::string why = unavailable(); !why.empty()) throw std::runtime_error(why);
  sweep(cgroup_root_);
  prefix_ = std::string(kPrefix) + std::to_string(::getpid()) + "-" + std::to_string(labs++);
  folder_ = fs::temp_directory_path() / prefix_;
  fs::create_directories(folder_ / "bpffs");
  fs::permissions(folder_, fs::perms::owner_all | fs::perms::group_exec | fs::perms::others_exec |
                               fs::perms::group_read | fs::perms::others_read);
  if (::mount("bpf", (folder_ / "bpffs").c_str(), "bpf", 0, "mode=0700") != 0) {
    throw std::runtime_error("mount a bpffs on " + (folder_ / "bpffs").string());
  }
  fs::create_directory(fs::path(cgroup_root_) / prefix_);
  must_run({"ip", "netns", "add", prefix_});
  namespaces_.push_back(prefix_);
  ip_batch(prefix_, "link add switch type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set switch up\n");
}

Lab::~Lab() {
  remove_cgroup(fs::path(cgroup_root_) / prefix_);
  hosts_.clear();
  for (const std::string& name : namespaces_) run({"ip", "netns", "del", name});
  if (std::getenv("MESH_KEEP_LAB") != nullptr) {
    ::umount2((folder_ / "bpffs").c_str(), MNT_DETACH);
    const fs::path kept = fs::temp_directory_path() / ("kept-" + prefix_);
    fs::rename(folder_, kept);
    std::fprintf(stderr, "lab: files are in %s\n", kept.c_str());
    return;
  }
  remove_folder(folder_);
}

Host& Lab::add_host(const std::string& name) {
  auto host = std::make_unique<Host>();
  const std::string number = std::to_string(hosts_.size() + 1);
  host->name_ = name;
  host->netns_name_ = prefix_ + "-" + name;
  host->v4_ = "10.77.0." + number;
  host->v6_ = "fd77::" + number;
  must_run({"ip", "netns", "add", host->netns_name_});
  namespaces_.push_back(host->netns_name_);
  ip_batch(prefix_, "link add port" + number + " type veth peer name eth0 netns " + host->netns_name_ +
                        "\nlink set port" + number + " master switch up\n");
  ip_batch(host->netns_name_, "link set lo up\nlink set eth0 up\naddress add " + host->v4_ +
                                  "/24 dev eth0\naddress add " + host->v6_ + "/64 dev eth0 nodad\n");
  host->fd_.reset(::open((std::string(kNamespaces) + "/" + host->netns_name_).c_str(), O_RDONLY | O_CLOEXEC));
  if (!host->fd_.valid()) throw std::runtime_error("open namespace " + host->netns_name_);
  hosts_.push_back(std::move(host));
  return *hosts_.back();
}

std::string Lab::cgroup(const std::string& name) {
  const fs::path folder = fs::path(cgroup_root_) / prefix_ / name;
  fs::create_directories(folder);
  return folder;
}

std::string Lab::cgroup_path(const std::string& name) {
  cgroup(name);
  return "/" + prefix_ + "/" + name;
}

std::string Lab::bpffs(const std::string& name) { return folder_ / "bpffs" / name; }

std::string Lab::write_file(const std::string& name, std::string_view content) const {
  const fs::path path = folder_ / name;
  fs::create_directories(path.parent_path());
  // Renamed into place, as editors and registries' writers do: a watcher never sees half a file.
  const fs::path fresh = path.parent_path() / ("." + path.filename().string() + ".new");
  std::ofstream(fresh) << content;
  fs::rename(fresh, path);
  return path;
}

SpawnOptions Lab::on(const Host& host, const std::string& cgroup_name, const std::string& log) {
  SpawnOptions options;
  options.netns = host.netns();
  options.cgroup = cgroup(cgroup_name);
  if (!log.empty()) options.output = folder_ / log;
  return options;
}

}  // namespace mesh::test

// SPDX-License-Identifier: Apache-2.0
// A lab of hosts for tests that need root: network namespaces on one switch, each with an IPv4 and an IPv6 address,
// cgroups of their own below the cgroup2 mount, a bpffs of their own and a folder for files.
//
//   host "node"  10.77.0.1 fd77::1 ─┐
//   host "web1"  10.77.0.2 fd77::2 ─┼─ switch (a bridge in a namespace of its own)
//   host "web2"  10.77.0.3 fd77::3 ─┘
//
// No host has a default route: a connect to a virtual address that is not rewritten fails at once (ENETUNREACH), so a
// hook that does not work can't hide. Nothing touches the machine's own network.
//
// Everything carries the pid of the test in its name. The destructor takes it all down; after a crash the next lab
// sweeps what dead owners left.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/fd.hpp"
#include "tests/support/process.hpp"

namespace mesh::test {

class Host {
 public:
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& v4() const { return v4_; }
  [[nodiscard]] const std::string& v6() const { return v6_; }
  [[nodiscard]] std::string v4(int port) const { return v4_ + ":" + std::to_string(port); }
  [[nodiscard]] std::string v6(int port) const { return "[" + v6_ + "]:" + std::to_string(port); }
  [[nodiscard]] int netns() const { return fd_.get(); }

  /// From now on what this host sends to `other` vanishes without a sound, both families, until mend().
  void black_hole(const Host& other) const;
  void mend(const Host& other) const;

 private:
  friend class Lab;
  std::string name_;
  std::string netns_name_;
  std::string v4_;
  std::string v6_;
  base::Fd fd_;
};

class Lab {
 public:
  Lab();  ///< Throws what is missing when it can't be made; see unavailable().
  ~Lab();
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  /// Why this machine or user can't have a lab; empty if it can. Tests skip with this text.
  static std::string unavailable();

  Host& add_host(const std::string& name);

  /// Makes a cgroup of the lab (or finds it) and returns its folder. `name` may have slashes.
  std::string cgroup(const std::string& name);
  /// The same cgroup as the configuration of meshd names it: a path below the cgroup2 mount.
  std::string cgroup_path(const std::string& name);
  [[nodiscard]] const std::string& cgroup_root() const { return cgroup_root_; }

  /// A bpffs of the lab; `name` keeps several agents apart.
  std::string bpffs(const std::string& name = "meshd");
  /// Folder for files; gone with the lab (kept when MESH_KEEP_LAB is set, and its name printed).
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  std::string write_file(const std::string& name, std::string_view content) const;

  /// Options to start something on a host in a cgroup of the lab; its output goes to the file `log` of the folder.
  SpawnOptions on(const Host& host, const std::string& cgroup_name = "others", const std::string& log = "");

 private:
  std::string prefix_;  ///< "meshlab-<pid>-<number>"
  std::string cgroup_root_;
  std::filesystem::path folder_;
  std::vector<std::unique_ptr<Host>> hosts_;
  std::vector<std::string> namespaces_;
};

}  // namespace mesh::test

// SPDX-License-Identifier: Apache-2.0
// A corner of the real kernel for one test process: its own network namespace, cgroup and bpffs, gone afterwards.
// Needs root. Everything here throws std::runtime_error when it can't be made; Sandbox::unavailable() asks first.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/fd.hpp"

namespace mesh::test {

/// This process in a new network namespace with `lo` up; back in the old one at the end.
class NetNs {
 public:
  NetNs();
  NetNs(const NetNs&) = delete;
  NetNs& operator=(const NetNs&) = delete;
  ~NetNs();

 private:
  base::Fd old_;
};

/// A cgroup2 folder of its own; removed at the end, with this process moved out of it.
class Cgroup {
 public:
  /// `name` is made unique by the process id; with a parent, it is a child of it.
  explicit Cgroup(const std::string& name, const Cgroup* parent = nullptr);
  Cgroup(const Cgroup&) = delete;
  Cgroup& operator=(const Cgroup&) = delete;
  ~Cgroup();

  /// Moves the calling process in: sockets it makes from now on belong here.
  void enter() const;
  /// Back to where the process came from.
  static void leave();
  [[nodiscard]] const std::string& path() const { return path_; }  ///< Below the mount: "/meshd-test-12-shop".
  [[nodiscard]] std::string folder() const;                        ///< In the file system.
  [[nodiscard]] std::uint64_t id() const;
  [[nodiscard]] static const std::string& root();  ///< The cgroup2 mount.

 private:
  std::string path_;
};

/// A bpffs instance on a private temporary folder, in a mount namespace of its own: this process stays in it.
class BpffsMount {
 public:
  BpffsMount();
  BpffsMount(const BpffsMount&) = delete;
  BpffsMount& operator=(const BpffsMount&) = delete;
  ~BpffsMount();
  [[nodiscard]] const std::string& folder() const { return folder_; }

 private:
  std::string folder_;
};

/// All three. The process is in the cgroup when it is made.
struct Sandbox {
  NetNs netns;
  BpffsMount bpffs;
  Cgroup cgroup{"bpf"};
  Sandbox() { cgroup.enter(); }

  [[nodiscard]] std::string pins() const { return bpffs.folder() + "/meshd"; }
  /// Why a sandbox can't be made here; empty if it can.
  static std::string unavailable();
};

}  // namespace mesh::test

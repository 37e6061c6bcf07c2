// SPDX-License-Identifier: Apache-2.0
// Who made the other end of a connection from the same network namespace: the kernel is asked by sock_diag(7), and says
// the user and the cgroup that the socket was made in (Linux 5.7), which nobody can claim.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "base/address.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "relay/identity.hpp"

namespace mesh::relay {

/// Ids of cgroups to paths below the mount, by walking the tree when one is new: needs no capability, and some 10 us a
/// cgroup of the host. An id is never given again. From any thread.
class CgroupNames {
 public:
  explicit CgroupNames(std::string root) : root_(std::move(root)) {}
  static constexpr std::size_t kMax = 100'000;  ///< Then all are forgotten.

  std::string path(std::uint64_t id);  ///< "": there is none.

 private:
  void walk(const std::string& folder);
  const std::string root_;
  std::mutex mutex_;
  std::unordered_map<std::uint64_t, std::string> paths_;  ///< Guarded by mutex_.
};

/// Of one network namespace. From any thread.
class SocketOwners {
 public:
  /// `diag`: a sock_diag socket of that namespace, which nobody else asks.
  SocketOwners(std::shared_ptr<base::Fd> diag, std::shared_ptr<CgroupNames> cgroups)
      : diag_(std::move(diag)), cgroups_(std::move(cgroups)) {}

  /// Of the other end of `accepted`. kNotFound: it is closed; kUnsupported: the kernel is too old.
  base::Result<Owner> find(int accepted);

 private:
  base::Result<Owner> find(const base::SocketAddress& own, const base::SocketAddress& peer);
  const std::shared_ptr<base::Fd> diag_;
  const std::shared_ptr<CgroupNames> cgroups_;
  std::mutex mutex_;
  std::uint32_t asked_ = 0;  ///< Guarded by mutex_.
};

}  // namespace mesh::relay

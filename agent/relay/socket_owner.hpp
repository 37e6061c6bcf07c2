// SPDX-License-Identifier: Apache-2.0
// Who made the other end of a connection from the same network namespace: the kernel is asked by sock_diag(7), and says
// the user and the cgroup that the socket was made in (Linux 5.8), which nobody can claim.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>

#include "base/address.hpp"
#include "base/clock.hpp"
#include "base/error.hpp"
#include "base/fd.hpp"
#include "relay/identity.hpp"

namespace mesh::relay {

/// Ids of cgroups to paths below the mount, by walking the tree when one is new: needs no capability, and some 10 us a
/// cgroup of the host. So that clients from cgroups that are gone can't keep it walking, an id that was not found is
/// not looked for again soon, and walks have a rate; beyond it the id is unknown for now. An id is never given again.
/// From any thread.
class CgroupNames {
 public:
  explicit CgroupNames(std::string root) : root_(std::move(root)) {}
  static constexpr std::size_t kMax = 100'000;  ///< Then all are forgotten.
  static constexpr std::chrono::milliseconds kWalkEvery{100};
  static constexpr int kWalkBurst = 10;  ///< Cgroups that are made at the same time have that many walks at once.
  static constexpr std::chrono::seconds kUnknownFor{10};

  std::string path(std::uint64_t id, base::TimePoint now);  ///< "": there is none, as far as it is known.

 private:
  bool may_walk(base::TimePoint now);
  void walk(const std::string& folder);
  const std::string root_;
  std::mutex mutex_;
  // Guarded by mutex_.
  std::unordered_map<std::uint64_t, std::string> paths_;
  std::unordered_map<std::uint64_t, base::TimePoint> unknown_;  ///< Until when; as few as there were walks.
  base::TimePoint walked_until_{};                              ///< Time up to which the rate is used up.
};

/// Who has the socket with the address `own` that is connected to `peer`?
struct OwnerQuestion {
  base::SocketAddress own;
  base::SocketAddress peer;
  std::uint32_t number = 0;  ///< Of the question.
};
struct DiagOwner {
  std::uint64_t cgroup = 0;  ///< Its id.
  std::optional<std::uint32_t> uid;
};
/// Reads a message, aligned as nlmsghdr, that came to a sock_diag socket from the netlink port `sender`. Nothing: it is
/// not the kernel's answer to that question. kNotFound: no such socket is connected (ENOENT: there is none at all).
std::optional<base::Result<DiagOwner>> read_owner(std::span<const char> message, std::uint32_t sender,
                                                  const OwnerQuestion& question);

/// Of one network namespace. From any thread.
class SocketOwners {
 public:
  /// `diag`: a sock_diag socket of that namespace, which nobody else asks.
  SocketOwners(std::shared_ptr<base::Fd> diag, std::shared_ptr<CgroupNames> cgroups)
      : diag_(std::move(diag)), cgroups_(std::move(cgroups)) {}

  static constexpr int kMessagesMax = 100;  ///< Read for one answer; others' messages may be before it.

  /// Of the other end of `accepted`. kNotFound: it is closed; kUnsupported: the kernel is too old, or can't be asked;
  /// kExhausted: kMessagesMax.
  base::Result<Owner> find(int accepted);

 private:
  base::Result<DiagOwner> ask(const base::SocketAddress& own, const base::SocketAddress& peer);
  const std::shared_ptr<base::Fd> diag_;
  const std::shared_ptr<CgroupNames> cgroups_;
  std::mutex mutex_;
  std::uint32_t asked_ = 0;  ///< Guarded by mutex_.
};

}  // namespace mesh::relay

// SPDX-License-Identifier: Apache-2.0
#include "relay/socket_owner.hpp"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>

namespace mesh::relay {
namespace {

namespace fs = std::filesystem;

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

void put_address(const base::IpAddress& ip, __be32 (&words)[4]) {
  const auto* from = ip.bytes.data() + (ip.is_v4() ? 12 : 0);
  std::memcpy(words, from, ip.is_v4() ? 4 : 16);
}

constexpr std::uint8_t kTimeWaitTimer = 3;  // as sock_diag calls it: what is left of a socket knows no owner

/// One that only begins to connect has not spoken to anybody.
bool is_connected(const inet_diag_msg& message) {
  const std::uint8_t state = message.idiag_state;
  return message.idiag_timer != kTimeWaitTimer &&
         (state == TCP_ESTABLISHED || state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2);
}

std::unexpected<base::Error> gone() {
  return base::fail(base::ErrorKind::kNotFound, "find who made a socket: it is closed");
}

std::optional<std::uint64_t> cgroup_of(const inet_diag_msg& message, std::size_t length) {
  auto left = static_cast<unsigned>(length - NLMSG_ALIGN(sizeof(message)));
  const auto* attribute = reinterpret_cast<const rtattr*>(&message + 1);
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    std::uint64_t id = 0;
    if (attribute->rta_type != INET_DIAG_CGROUP_ID || RTA_PAYLOAD(attribute) != sizeof(id)) continue;
    std::memcpy(&id, RTA_DATA(attribute), sizeof(id));
    return id;
  }
  return std::nullopt;
}

std::uint64_t id_of(const std::string& folder) {
  struct stat status{};
  return ::stat(folder.c_str(), &status) == 0 ? status.st_ino : 0;
}

}  // namespace

std::string CgroupNames::path(std::uint64_t id) {
  const std::lock_guard lock(mutex_);
  auto known = paths_.find(id);
  if (known == paths_.end()) {
    if (paths_.size() >= kMax) paths_.clear();
    walk(root_);
    known = paths_.find(id);
  }
  return known == paths_.end() ? "" : known->second;
}

/// One that goes meanwhile hides nothing but itself.
void CgroupNames::walk(const std::string& folder) {
  paths_[id_of(folder)] = folder.size() == root_.size() ? "/" : folder.substr(root_.size());
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    if (it->is_directory(ignored)) walk(it->path());
  }
}

base::Result<Owner> SocketOwners::find(int accepted) {
  const auto address = [&](auto ask) {
    sockaddr_storage found{};
    socklen_t length = sizeof(found);
    ask(accepted, reinterpret_cast<sockaddr*>(&found), &length);
    return base::SocketAddress::from_sockaddr(found);
  };
  auto owner = find(address(::getpeername), address(::getsockname));
  // While this end lives nobody else can have the addresses of the other.
  tcp_info info{};
  socklen_t length = sizeof(info);
  ::getsockopt(accepted, IPPROTO_TCP, TCP_INFO, &info, &length);
  if (info.tcpi_state == TCP_ESTABLISHED || info.tcpi_state == TCP_CLOSE_WAIT) return owner;
  return gone();
}

base::Result<Owner> SocketOwners::find(const base::SocketAddress& own, const base::SocketAddress& peer) {
  const auto failed = [&](int errnum) {
    return base::fail_errno(errnum, "find who made the socket " + own.to_string() + " to " + peer.to_string());
  };
  const std::lock_guard lock(mutex_);
  Request request{};
  request.header = {.nlmsg_len = sizeof(request),
                    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                    .nlmsg_flags = NLM_F_REQUEST,
                    .nlmsg_seq = ++asked_,
                    .nlmsg_pid = 0};
  request.body.sdiag_family = own.ip.is_v4() ? AF_INET : AF_INET6;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = ~0U;
  put_address(own.ip, request.body.id.idiag_src);
  put_address(peer.ip, request.body.id.idiag_dst);
  request.body.id.idiag_sport = htons(own.port);
  request.body.id.idiag_dport = htons(peer.port);
  std::ranges::fill(request.body.id.idiag_cookie, INET_DIAG_NOCOOKIE);
  if (::send(diag_->get(), &request, sizeof(request), MSG_DONTWAIT) < 0) return failed(errno);
  // The answer is there when send() returns; one that nobody waited for any more may be before it.
  alignas(nlmsghdr) std::array<char, 4096> buffer;
  while (true) {
    const ssize_t size = ::recv(diag_->get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0) return failed(errno);
    const auto* header = reinterpret_cast<const nlmsghdr*>(buffer.data());
    if (!NLMSG_OK(header, static_cast<unsigned>(size)) || header->nlmsg_seq != asked_) continue;
    if (header->nlmsg_type == NLMSG_ERROR) {
      const int errnum = -static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error;
      return errnum == ENOENT ? base::Result<Owner>(gone()) : failed(errnum);
    }
    const auto& message = *static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
    if (message.id.idiag_dport != htons(peer.port) || !is_connected(message)) return gone();
    const auto cgroup = cgroup_of(message, NLMSG_PAYLOAD(header, 0));
    if (!cgroup) {
      return base::fail(base::ErrorKind::kUnsupported, "find who made a socket: the kernel does not say its cgroup",
                        "use Linux 5.7 or newer");
    }
    // Without a file it has been closed, and its user would be said to be root.
    const bool open = message.idiag_inode != 0;
    return Owner{cgroups_->path(*cgroup), open ? std::optional(message.idiag_uid) : std::nullopt};
  }
}

}  // namespace mesh::relay

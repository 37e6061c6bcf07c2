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

/// Of IPv4 in a socket of either family.
base::IpAddress get_address(std::uint8_t family, const __be32 (&words)[4]) {
  base::IpAddress ip;
  if (family == AF_INET) ip.bytes[10] = ip.bytes[11] = 0xff;
  std::memcpy(ip.bytes.data() + (family == AF_INET ? 12 : 0), words, family == AF_INET ? 4 : 16);
  return ip;
}

constexpr std::uint8_t kTimeWaitTimer = 3;  // as sock_diag calls it: what is left of a socket knows no owner

/// One that only begins to connect has not spoken to anybody. The kernel also shows a listening socket of that address.
bool is_connected(const inet_diag_msg& message, const OwnerQuestion& question) {
  const base::SocketAddress own{get_address(message.idiag_family, message.id.idiag_src), ntohs(message.id.idiag_sport)};
  const base::SocketAddress peer{get_address(message.idiag_family, message.id.idiag_dst),
                                 ntohs(message.id.idiag_dport)};
  if (own != question.own || peer != question.peer) return false;
  const std::uint8_t state = message.idiag_state;
  return message.idiag_timer != kTimeWaitTimer &&
         (state == TCP_ESTABLISHED || state == TCP_FIN_WAIT1 || state == TCP_FIN_WAIT2);
}

std::unexpected<base::Error> gone() {
  return base::fail(base::ErrorKind::kNotFound, "find who made a socket: it is closed");
}

std::unexpected<base::Error> failed(int errnum, const OwnerQuestion& question) {
  return base::fail_errno(errnum,
                          "find who made the socket " + question.own.to_string() + " to " + question.peer.to_string());
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

std::string CgroupNames::path(std::uint64_t id, base::TimePoint now) {
  const std::lock_guard lock(mutex_);
  auto known = paths_.find(id);
  if (known != paths_.end()) return known->second;
  if (const auto unknown = unknown_.find(id); unknown != unknown_.end() && now < unknown->second) return "";
  if (!may_walk(now)) return "";
  if (paths_.size() >= kMax) paths_.clear();
  walk(root_);
  known = paths_.find(id);
  if (known != paths_.end()) return known->second;
  std::erase_if(unknown_, [&](const auto& one) { return one.second <= now; });
  unknown_[id] = now + kUnknownFor;
  return "";
}

bool CgroupNames::may_walk(base::TimePoint now) {
  if (walked_until_ > now + (kWalkBurst - 1) * kWalkEvery) return false;
  walked_until_ = std::max(walked_until_, now) + kWalkEvery;
  return true;
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

std::optional<base::Result<DiagOwner>> read_owner(std::span<const char> bytes, std::uint32_t sender,
                                                  const OwnerQuestion& question) {
  if (sender != 0) return std::nullopt;  // whoever has CAP_NET_ADMIN in the namespace may write to others' sockets
  const auto* header = reinterpret_cast<const nlmsghdr*>(bytes.data());
  if (!NLMSG_OK(header, static_cast<unsigned>(bytes.size())) || header->nlmsg_seq != question.number) {
    return std::nullopt;
  }
  const std::size_t length = NLMSG_PAYLOAD(header, 0);
  if (header->nlmsg_type == NLMSG_ERROR && length >= sizeof(nlmsgerr)) {
    return failed(-static_cast<const nlmsgerr*>(NLMSG_DATA(header))->error, question);
  }
  if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY || length < sizeof(inet_diag_msg)) return std::nullopt;
  const auto& message = *static_cast<const inet_diag_msg*>(NLMSG_DATA(header));
  if (!is_connected(message, question)) return gone();
  const auto cgroup = cgroup_of(message, length);
  if (!cgroup) {
    return base::fail(base::ErrorKind::kUnsupported, "find who made a socket: the kernel does not say its cgroup",
                      "use Linux 5.8 or newer");
  }
  // Without a file it has been closed, and its user would be said to be root.
  const bool open = message.idiag_inode != 0;
  return DiagOwner{*cgroup, open ? std::optional(message.idiag_uid) : std::nullopt};
}

base::Result<Owner> SocketOwners::find(int accepted) {
  const auto address = [&](auto get) {
    sockaddr_storage found{};
    socklen_t length = sizeof(found);
    get(accepted, reinterpret_cast<sockaddr*>(&found), &length);
    return base::SocketAddress::from_sockaddr(found);
  };
  const auto owner = ask(address(::getpeername), address(::getsockname));
  // While this end lives nobody else can have the addresses of the other.
  tcp_info info{};
  socklen_t length = sizeof(info);
  ::getsockopt(accepted, IPPROTO_TCP, TCP_INFO, &info, &length);
  if (info.tcpi_state != TCP_ESTABLISHED && info.tcpi_state != TCP_CLOSE_WAIT) return gone();
  if (owner) return Owner{cgroups_->path(owner->cgroup, base::steady_now()), owner->uid};
  if (owner.error().errnum == ENOENT && info.tcpi_state == TCP_ESTABLISHED) {
    return base::fail(base::ErrorKind::kUnsupported,
                      "find who made a socket: the kernel knows of none, though it is connected",
                      "if it is so for all clients load the kernel's module tcp_diag");
  }
  return std::unexpected(owner.error());
}

base::Result<DiagOwner> SocketOwners::ask(const base::SocketAddress& own, const base::SocketAddress& peer) {
  const std::lock_guard lock(mutex_);
  const OwnerQuestion question{own, peer, ++asked_};
  Request request{};
  request.header = {.nlmsg_len = sizeof(request),
                    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                    .nlmsg_flags = NLM_F_REQUEST,
                    .nlmsg_seq = question.number,
                    .nlmsg_pid = 0};
  request.body.sdiag_family = own.ip.is_v4() ? AF_INET : AF_INET6;
  request.body.sdiag_protocol = IPPROTO_TCP;
  request.body.idiag_states = ~0U;
  put_address(own.ip, request.body.id.idiag_src);
  put_address(peer.ip, request.body.id.idiag_dst);
  request.body.id.idiag_sport = htons(own.port);
  request.body.id.idiag_dport = htons(peer.port);
  std::ranges::fill(request.body.id.idiag_cookie, INET_DIAG_NOCOOKIE);
  if (::send(diag_->get(), &request, sizeof(request), MSG_DONTWAIT) < 0) return failed(errno, question);
  // The answer is there when send() returns; one that nobody waited for any more may be before it.
  alignas(nlmsghdr) std::array<char, 4096> buffer;
  for (int read = 0; read < kMessagesMax; ++read) {
    sockaddr_nl sender{};
    socklen_t length = sizeof(sender);
    const ssize_t size = ::recvfrom(diag_->get(), buffer.data(), buffer.size(), MSG_DONTWAIT,
                                    reinterpret_cast<sockaddr*>(&sender), &length);
    if (size < 0) return failed(errno, question);
    const auto answer = read_owner(std::span(buffer).first(static_cast<std::size_t>(size)), sender.nl_pid, question);
    if (answer) return *answer;
  }
  return base::fail(base::ErrorKind::kExhausted,
                    "find who made a socket: " + std::to_string(kMessagesMax) + " messages are before the answer",
                    "somebody with CAP_NET_ADMIN in the client's network namespace writes to the relay's socket there");
}

}  // namespace mesh::relay

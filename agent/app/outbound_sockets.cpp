// SPDX-License-Identifier: Apache-2.0
#include "app/outbound_sockets.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/netlink.h>
#include <linux/sockios.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <sstream>
#include <utility>

#include "base/log.hpp"
#include "relay/listen.hpp"

namespace mesh::app {
namespace {

constexpr base::log::Logger kLog{"relay"};
constexpr std::size_t kErrorsMax = 10;
constexpr std::string_view kPrefix = "out";
constexpr std::string_view kOwnerPrefix = "owners";

std::optional<base::SocketAddress> bound_to(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return std::nullopt;
  return base::SocketAddress::from_sockaddr(address);
}

std::optional<std::uint64_t> namespace_of(int fd) {
  const base::Fd netns(::ioctl(fd, SIOCGSKNS));
  struct stat status{};
  if (!netns.valid() || ::fstat(netns.get(), &status) != 0) return std::nullopt;
  return status.st_ino;
}

}  // namespace

std::string OutboundSocket::name() const {
  return fmt::format("{} {} {} {}", kPrefix, place, listen.to_string(), frontend);
}

std::optional<OutboundSocket> OutboundSocket::parse(std::string_view name) {
  std::istringstream words{std::string(name)};
  std::string prefix, listen;
  OutboundSocket socket;
  words >> prefix >> socket.place >> listen >> socket.frontend;
  const auto address = base::SocketAddress::parse(listen);
  if (!words || prefix != kPrefix || !address) return std::nullopt;
  socket.listen = *address;
  return socket;
}

void OutboundSockets::adopt(const std::string& name, base::Fd fd) {
  const auto socket = OutboundSocket::parse(name);
  if (!socket || sockets_.contains(*socket)) return;
  if (bound_to(fd.get()) != socket->listen || namespace_of(fd.get()) != socket->place) {
    return kLog.error("a relay showed a socket that is another", {{"name", name}});
  }
  // An upgrade may have made the map of marks anew.
  if (const auto marked = mark_(fd.get()); !marked) {
    return kLog.error("socket of an earlier agent not taken over", {{"name", name}, {"err", marked.error()}});
  }
  sockets_.emplace(*socket, std::move(fd));
}

base::Result<base::Fd> OutboundSockets::open(const OutboundSocket& socket, const base::NetNamespace& place) {
  if (place.path.empty()) return relay::listen_on(socket.listen);
  const base::Fd netns(::open(place.path.c_str(), O_RDONLY | O_CLOEXEC));
  struct stat status{};
  if (!netns.valid() || ::fstat(netns.get(), &status) != 0 || status.st_ino != place.id) {
    return base::fail(base::ErrorKind::kNotFound, "open " + place.path + ": the process is gone");
  }
  return open_in(netns.get(), place.path, [&] { return relay::listen_on(socket.listen); });
}

base::Result<base::Fd> OutboundSockets::open_in(int netns, const std::string& where,
                                                const std::function<base::Result<base::Fd>()>& open_it) {
  if (!home_.valid()) home_.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!home_.valid() || ::setns(netns, CLONE_NEWNET) != 0) {
    return base::fail_errno(errno, "enter " + where, "the agent needs CAP_SYS_ADMIN");
  }
  auto opened = open_it();
  MESH_ASSERT(::setns(home_.get(), CLONE_NEWNET) == 0);
  return opened;
}

base::Result<base::Fd> OutboundSockets::open_owner_socket(int socket) {
  const base::Fd netns(::ioctl(socket, SIOCGSKNS));
  if (!netns.valid()) return base::fail_errno(errno, "find the network namespace of a socket");
  return open_in(netns.get(), "a network namespace", []() -> base::Result<base::Fd> {
    base::Fd fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_SOCK_DIAG));
    // Connected to the kernel it takes messages of nobody else: clients may have CAP_NET_ADMIN in their namespace.
    sockaddr_nl kernel{};
    kernel.nl_family = AF_NETLINK;
    if (!fd.valid() || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&kernel), sizeof(kernel)) != 0) {
      return base::fail_errno(errno, "open a sock_diag socket");
    }
    return fd;
  });
}

std::string owner_socket_name(std::uint64_t place) { return fmt::format("{} {}", kOwnerPrefix, place); }

std::optional<std::uint64_t> parse_owner_socket(std::string_view name) {
  std::istringstream words{std::string(name)};
  std::string prefix;
  std::uint64_t place = 0;
  words >> prefix >> place;
  return words && prefix == kOwnerPrefix ? std::optional(place) : std::nullopt;
}

void OutboundSockets::complain(const base::NetNamespace& place, const Wanted& wanted, const base::Error& error,
                               std::set<std::string>& said) {
  // Without IPv6 nobody in there misses it.
  if (!wanted.listen.ip.is_v4() && (error.errnum == EADDRNOTAVAIL || error.errnum == EAFNOSUPPORT)) return;
  std::string text =
      fmt::format("{} in the network namespace of process {}: {}", wanted.frontend, place.pid, error.to_string());
  if (!said_.contains(text)) kLog.error("connections are refused: the relay can't listen", {{"where", text}});
  if (errors_.size() < kErrorsMax) errors_.push_back(text);
  said.insert(std::move(text));
}

bool OutboundSockets::update(std::span<const Wanted> wanted, std::span<const base::NetNamespace> places) {
  std::set<OutboundSocket> keep;
  for (const base::NetNamespace& place : places) {
    for (const Wanted& one : wanted) keep.insert({place.id, one.listen, one.frontend});
  }
  bool changed = std::erase_if(sockets_, [&](const auto& one) { return !keep.contains(one.first); }) > 0;
  errors_.clear();
  std::set<std::string> said;
  for (const base::NetNamespace& place : places) {
    for (const Wanted& one : wanted) {
      const OutboundSocket socket{place.id, one.listen, one.frontend};
      if (sockets_.contains(socket)) continue;
      base::Result<base::Fd> opened =
          base::fail(base::ErrorKind::kExhausted,
                     fmt::format("listen: there are {} sockets for services with TLS already", kOutboundSocketsMax),
                     "attach fewer cgroups, or mark fewer services");
      if (sockets_.size() < kOutboundSocketsMax) opened = open(socket, place);
      if (opened) {
        if (const auto marked = mark_(opened->get()); !marked) opened = std::unexpected(marked.error());
      }
      if (!opened) {
        complain(place, one, opened.error(), said);
        continue;
      }
      sockets_.emplace(socket, std::move(*opened));
      changed = true;
    }
  }
  said_ = std::move(said);
  return changed;
}

}  // namespace mesh::app

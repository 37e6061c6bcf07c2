// SPDX-License-Identifier: Apache-2.0
#include "app/relay_channel.hpp"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>

namespace mesh::app {
namespace {

constexpr int kBacklog = 8;

struct Header {
  std::uint32_t length = 0;
  std::uint32_t descriptors = 0;
};

union ControlBuffer {
  cmsghdr align;
  std::array<char, CMSG_SPACE(kRelayDescriptorsMax * sizeof(int))> bytes;
};

base::Result<void> send_all(int fd, const char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t count = ::send(fd, data, size, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::fail_errno(errno, "send over relay.sock");
    data += count;
    size -= static_cast<std::size_t>(count);
  }
  return {};
}

base::Result<void> receive_all(int fd, char* data, std::size_t size) {
  while (size > 0) {
    const ssize_t count = ::recv(fd, data, size, 0);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return base::fail_errno(errno, "receive from relay.sock");
    if (count == 0) return base::fail(base::ErrorKind::kUnavailable, "receive from relay.sock: the other end is gone");
    data += count;
    size -= static_cast<std::size_t>(count);
  }
  return {};
}

std::optional<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  if (path.size() >= sizeof(address.sun_path)) return std::nullopt;
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

std::unexpected<base::Error> path_too_long(const std::string& path) {
  return base::fail(base::ErrorKind::kInvalid, "use socket " + path + ": the path is too long for a unix socket",
                    "choose a shorter agent.run_dir");
}

}  // namespace

RelayChannel::RelayChannel(base::Fd fd) : fd_(std::move(fd)) {
  const timeval patience{.tv_sec = kRelayPatience.count(), .tv_usec = 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
}

base::Result<void> RelayChannel::send(const std::string& text, std::span<const int> descriptors) {
  MESH_ASSERT(descriptors.size() <= kRelayDescriptorsMax && text.size() <= kRelayMessageMax);
  Header header{static_cast<std::uint32_t>(text.size()), static_cast<std::uint32_t>(descriptors.size())};
  iovec part{&header, sizeof(header)};
  ControlBuffer control{};
  msghdr message{.msg_iov = &part, .msg_iovlen = 1};
  if (!descriptors.empty()) {
    message.msg_control = control.bytes.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* const rights = CMSG_FIRSTHDR(&message);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(rights), descriptors.data(), descriptors.size_bytes());
  }
  ssize_t count = 0;
  do {
    count = ::sendmsg(fd_.get(), &message, MSG_NOSIGNAL);
  } while (count < 0 && errno == EINTR);
  if (count != static_cast<ssize_t>(sizeof(header))) return base::fail_errno(errno, "send over relay.sock");
  return send_all(fd_.get(), text.data(), text.size());
}

base::Result<RelayChannel::Message> RelayChannel::receive() {
  Header header;
  iovec part{&header, sizeof(header)};
  ControlBuffer control{};
  msghdr message{
      .msg_iov = &part, .msg_iovlen = 1, .msg_control = control.bytes.data(), .msg_controllen = control.bytes.size()};
  ssize_t count = 0;
  do {
    count = ::recvmsg(fd_.get(), &message, MSG_CMSG_CLOEXEC);
  } while (count < 0 && errno == EINTR);
  if (count < 0) return base::fail_errno(errno, "receive from relay.sock");
  Message received;
  for (cmsghdr* one = CMSG_FIRSTHDR(&message); one != nullptr; one = CMSG_NXTHDR(&message, one)) {
    if (one->cmsg_level != SOL_SOCKET || one->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t size = one->cmsg_len - CMSG_LEN(0);
    for (std::size_t at = 0; at + sizeof(int) <= size; at += sizeof(int)) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(one) + at, sizeof(fd));
      received.descriptors.emplace_back(fd);
    }
  }
  if (count == 0) return base::fail(base::ErrorKind::kUnavailable, "receive from relay.sock: the other end is gone");
  if (const auto got = static_cast<std::size_t>(count); got < sizeof(header)) {
    MESH_CHECK(receive_all(fd_.get(), reinterpret_cast<char*>(&header) + got, sizeof(header) - got));
  }
  if (header.length > kRelayMessageMax || header.descriptors != received.descriptors.size()) {
    return base::fail(base::ErrorKind::kInvalid, "receive from relay.sock: the other end speaks something else",
                      "run agent and relay of neighbouring versions");
  }
  std::string text(header.length, '\0');
  MESH_CHECK(receive_all(fd_.get(), text.data(), text.size()));
  received.body = MESH_TRY(api::detail::parse(text));
  return received;
}

pid_t RelayChannel::peer() const {
  ucred peer{};
  socklen_t length = sizeof(peer);
  return ::getsockopt(fd_.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 ? peer.pid : 0;
}

base::Result<base::Fd> listen_for_relays(const std::string& path) {
  const auto address = address_of(path);
  if (!address) return path_too_long(path);
  std::error_code ignored;
  std::filesystem::create_directories(std::filesystem::path(path).parent_path(), ignored);
  base::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return base::fail_errno(errno, "listen on " + path);
  ::unlink(path.c_str());
  const mode_t mask = ::umask(0177);
  const int bound = ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address));
  const int errnum = errno;
  ::umask(mask);
  if (bound != 0) return base::fail_errno(errnum, "listen on " + path);
  if (::listen(fd.get(), kBacklog) != 0) return base::fail_errno(errno, "listen on " + path);
  return fd;
}

base::Result<RelayChannel> connect_to_agent(const std::string& path) {
  const auto address = address_of(path);
  if (!address) return path_too_long(path);
  base::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return base::fail_errno(errno, "connect to " + path);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof(*address)) != 0) {
    return base::fail_errno(errno, "connect to " + path, "is the agent running?");
  }
  return RelayChannel(std::move(fd));
}

}  // namespace mesh::app

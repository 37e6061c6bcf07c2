// SPDX-License-Identifier: Apache-2.0
#include "datapath/sock_diag.hpp"

#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/fd.hpp"

namespace mesh::datapath {
namespace {

constexpr std::size_t kMessageMax = 64 << 10;  // the kernel fills at most 32 KiB at a time
// Whatever may have a peer. A connected UDP socket is ESTABLISHED.
constexpr std::uint32_t kStates = 1U << TCP_ESTABLISHED | 1U << TCP_SYN_SENT | 1U << TCP_FIN_WAIT1 |
                                  1U << TCP_FIN_WAIT2 | 1U << TCP_CLOSE_WAIT | 1U << TCP_LAST_ACK | 1U << TCP_CLOSING;

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

struct Found {
  inet_diag_req_v2 request{};  ///< That destroys it.
  DiagSocket socket;
};

base::SocketAddress peer_of(const inet_diag_msg& message) {
  base::SocketAddress peer;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(message.id.idiag_dst);
  if (message.idiag_family == AF_INET) {
    peer.ip.bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    std::copy_n(bytes, 4, peer.ip.bytes.begin() + 12);
  } else {
    std::copy_n(bytes, 16, peer.ip.bytes.begin());
  }
  peer.port = ntohs(message.id.idiag_dport);
  return peer;
}

/// One netlink socket: a question and its answers.
class Diag {
 public:
  static base::Result<Diag> open() {
    Diag diag(base::Fd(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG)));
    if (!diag.fd_.valid()) return base::fail_errno(errno, "open a sock_diag socket");
    return diag;
  }

  base::Result<void> send(std::uint16_t type, std::uint16_t flags, const inet_diag_req_v2& body) {
    Request request{};
    request.header.nlmsg_len = sizeof(request);
    request.header.nlmsg_type = type;
    request.header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
    request.body = body;
    if (::send(fd_.get(), &request, sizeof(request), 0) == sizeof(request)) return {};
    return base::fail_errno(errno, "ask sock_diag");
  }

  /// Reads answers until the list, or the acknowledgement, is over. Returns the errno it says.
  base::Result<int> receive(const std::function<void(const inet_diag_msg&)>& visit) {
    while (true) {
      const ssize_t size = ::recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
      if (size < 0) return base::fail_errno(errno, "read from sock_diag");
      auto left = static_cast<unsigned>(size);
      for (auto* message = reinterpret_cast<nlmsghdr*>(buffer_.data()); NLMSG_OK(message, left);
           message = NLMSG_NEXT(message, left)) {
        if (message->nlmsg_type == NLMSG_DONE) return 0;
        if (message->nlmsg_type == NLMSG_ERROR) return -static_cast<const nlmsgerr*>(NLMSG_DATA(message))->error;
        visit(*static_cast<const inet_diag_msg*>(NLMSG_DATA(message)));
      }
    }
  }

 private:
  explicit Diag(base::Fd fd) : fd_(std::move(fd)), buffer_(kMessageMax) {}
  base::Fd fd_;
  std::vector<char> buffer_;
};

base::Result<std::vector<Found>> list(Diag& diag, std::uint8_t family, std::uint8_t protocol,
                                      const std::function<bool(const DiagSocket&)>& wanted) {
  inet_diag_req_v2 question{};
  question.sdiag_family = family;
  question.sdiag_protocol = protocol;
  question.idiag_states = kStates;
  MESH_CHECK(diag.send(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, question));
  std::vector<Found> found;
  const int error = MESH_TRY(diag.receive([&](const inet_diag_msg& message) {
    const DiagSocket socket{static_cast<std::uint64_t>(message.id.idiag_cookie[1]) << 32 | message.id.idiag_cookie[0],
                            peer_of(message)};
    if (!wanted(socket)) return;
    inet_diag_req_v2 request{};
    request.sdiag_family = message.idiag_family;
    request.sdiag_protocol = protocol;
    request.idiag_states = kStates;
    request.id = message.id;
    found.push_back({request, socket});
  }));
  if (error != 0) return base::fail_errno(error, "list sockets by sock_diag");
  return found;
}

}  // namespace

base::Result<void> destroy_sockets(std::uint8_t protocol, const std::function<bool(const DiagSocket&)>& wanted,
                                   const std::function<void(const DiagSocket&, bool ok)>& destroyed) {
  Diag diag = MESH_TRY(Diag::open());
  for (const std::uint8_t family : std::array<std::uint8_t, 2>{AF_INET, AF_INET6}) {
    for (const Found& found : MESH_TRY(list(diag, family, protocol, wanted))) {
      MESH_CHECK(diag.send(SOCK_DESTROY, NLM_F_ACK, found.request));
      const int error = MESH_TRY(diag.receive([](const inet_diag_msg&) {}));
      if (error != ENOENT) destroyed(found.socket, error == 0);  // not there any more: it closed by itself
    }
  }
  return {};
}

}  // namespace mesh::datapath

// SPDX-License-Identifier: Apache-2.0
#include "datapath/sock_diag.hpp"

#include <linux/bpf.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
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
constexpr std::uint32_t kStates = 1U << BPF_TCP_ESTABLISHED | 1U << BPF_TCP_SYN_SENT | 1U << BPF_TCP_FIN_WAIT1 |
                                  1U << BPF_TCP_FIN_WAIT2 | 1U << BPF_TCP_CLOSE_WAIT | 1U << BPF_TCP_LAST_ACK |
                                  1U << BPF_TCP_CLOSING;

struct Request {
  nlmsghdr header;
  inet_diag_req_v2 body;
};

struct Found {
  inet_diag_req_v2 request{};  ///< That destroys it.
  DiagSocket socket;
};

base::SocketAddress address_of(std::uint8_t family, const __be32 (&words)[4], __be16 port_be) {
  base::SocketAddress address;
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(words);
  if (family == AF_INET) {
    address.ip.bytes = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    std::copy_n(bytes, 4, address.ip.bytes.begin() + 12);
  } else {
    std::copy_n(bytes, 16, address.ip.bytes.begin());
  }
  address.port = ntohs(port_be);
  return address;
}

base::SocketAddress peer_of(const inet_diag_msg& message) {
  return address_of(message.idiag_family, message.id.idiag_dst, message.id.idiag_dport);
}

std::uint64_t cookie_of(const inet_diag_msg& message) {
  return static_cast<std::uint64_t>(message.id.idiag_cookie[1]) << 32 | message.id.idiag_cookie[0];
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
  base::Result<int> receive(const std::function<void(const inet_diag_msg&, std::size_t length)>& visit) {
    while (true) {
      const ssize_t size = ::recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
      if (size < 0) return base::fail_errno(errno, "read from sock_diag");
      auto left = static_cast<unsigned>(size);
      for (auto* message = reinterpret_cast<nlmsghdr*>(buffer_.data()); NLMSG_OK(message, left);
           message = NLMSG_NEXT(message, left)) {
        if (message->nlmsg_type == NLMSG_DONE) return 0;
        if (message->nlmsg_type == NLMSG_ERROR) return -static_cast<const nlmsgerr*>(NLMSG_DATA(message))->error;
        visit(*static_cast<const inet_diag_msg*>(NLMSG_DATA(message)), NLMSG_PAYLOAD(message, 0));
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
  const int error = MESH_TRY(diag.receive([&](const inet_diag_msg& message, std::size_t) {
    const DiagSocket socket{cookie_of(message), peer_of(message)};
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

/// `length`: of the message with the attributes behind it.
LiveSocket live_socket(const inet_diag_msg& message, std::size_t length) {
  LiveSocket socket;
  socket.state = message.idiag_state;
  socket.local = address_of(message.idiag_family, message.id.idiag_src, message.id.idiag_sport);
  auto left = static_cast<unsigned>(length - NLMSG_ALIGN(sizeof(message)));
  const auto* attribute = reinterpret_cast<const rtattr*>(&message + 1);
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) {
    if (attribute->rta_type != INET_DIAG_INFO) continue;
    tcp_info info{};  // aligned to 4 only, and of the kernel's size
    std::memcpy(&info, RTA_DATA(attribute), std::min<std::size_t>(sizeof(info), RTA_PAYLOAD(attribute)));
    socket.bytes_out = info.tcpi_bytes_acked > 0 ? info.tcpi_bytes_acked - 1 : 0;  // the SYN counts one
    socket.bytes_in = info.tcpi_bytes_received;
    socket.srtt_us = info.tcpi_rtt;
    socket.retransmits = info.tcpi_total_retrans;
  }
  return socket;
}

}  // namespace

std::string_view tcp_state_name(std::uint8_t state) {
  constexpr std::array<std::string_view, 12> kNames = {"closed",     "established", "syn_sent",  "syn_recv",
                                                       "fin_wait1",  "fin_wait2",   "time_wait", "closed",
                                                       "close_wait", "last_ack",    "listen",    "closing"};
  return state < kNames.size() ? kNames[state] : "closed";
}

base::Result<void> read_tcp_sockets(const VisitSocket& visit) {
  Diag diag = MESH_TRY(Diag::open());
  for (const std::uint8_t family : std::array<std::uint8_t, 2>{AF_INET, AF_INET6}) {
    inet_diag_req_v2 question{};
    question.sdiag_family = family;
    question.sdiag_protocol = IPPROTO_TCP;
    question.idiag_ext = 1 << (INET_DIAG_INFO - 1);
    question.idiag_states = kStates;
    MESH_CHECK(diag.send(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, question));
    const int error = MESH_TRY(diag.receive([&](const inet_diag_msg& message, std::size_t length) {
      visit(cookie_of(message), live_socket(message, length));
    }));
    if (error != 0) return base::fail_errno(error, "list sockets by sock_diag");
  }
  return {};
}

base::Result<void> destroy_sockets(std::uint8_t protocol, const std::function<bool(const DiagSocket&)>& wanted,
                                   const std::function<void(const DiagSocket&, bool ok)>& destroyed) {
  Diag diag = MESH_TRY(Diag::open());
  for (const std::uint8_t family : std::array<std::uint8_t, 2>{AF_INET, AF_INET6}) {
    for (const Found& found : MESH_TRY(list(diag, family, protocol, wanted))) {
      MESH_CHECK(diag.send(SOCK_DESTROY, NLM_F_ACK, found.request));
      const int error = MESH_TRY(diag.receive([](const inet_diag_msg&, std::size_t) {}));
      if (error != ENOENT) destroyed(found.socket, error == 0);  // not there any more: it closed by itself
    }
  }
  return {};
}

}  // namespace mesh::datapath

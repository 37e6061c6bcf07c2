// SPDX-License-Identifier: Apache-2.0
#include "datapath/unreachable_route.hpp"

#include <fmt/format.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "base/fd.hpp"

namespace mesh::datapath {
namespace {

constexpr std::uint8_t kProtocol =
    77;  ///< Who made the route; the kernel leaves all above 4 to users, "ip route" shows it.
constexpr std::uint32_t kMetric = 0xfffffffe;

struct Request {
  nlmsghdr header;
  rtmsg route;
  std::array<std::uint8_t, 64> attributes;
};

void add_attribute(Request& request, std::uint16_t type, const void* data, std::uint16_t size) {
  auto* const at = reinterpret_cast<std::uint8_t*>(&request) + NLMSG_ALIGN(request.header.nlmsg_len);
  const rtattr attribute{.rta_len = static_cast<std::uint16_t>(RTA_LENGTH(size)), .rta_type = type};
  std::memcpy(at, &attribute, sizeof(attribute));
  std::memcpy(at + RTA_LENGTH(0), data, size);
  request.header.nlmsg_len =
      static_cast<std::uint32_t>(NLMSG_ALIGN(request.header.nlmsg_len) + RTA_ALIGN(attribute.rta_len));
}

/// The kernel's answer as an errno; 0: done.
base::Result<int> change_route(std::uint16_t type, std::uint16_t flags, const base::IpAddress& ip, unsigned bits) {
  const base::Fd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
  if (!socket.valid()) return base::fail_errno(errno, "open a route socket");
  Request request{};
  request.header.nlmsg_len = NLMSG_LENGTH(sizeof(rtmsg));
  request.header.nlmsg_type = type;
  request.header.nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
  const bool v4 = ip.is_v4();
  request.route = {.rtm_family = static_cast<std::uint8_t>(v4 ? AF_INET : AF_INET6),
                   .rtm_dst_len = static_cast<std::uint8_t>(bits),
                   .rtm_table = RT_TABLE_MAIN,
                   .rtm_protocol = kProtocol,
                   .rtm_scope = RT_SCOPE_UNIVERSE,
                   .rtm_type = RTN_UNREACHABLE};
  add_attribute(request, RTA_DST, ip.bytes.data() + (v4 ? 12 : 0), v4 ? 4 : 16);
  add_attribute(request, RTA_PRIORITY, &kMetric, sizeof(kMetric));
  if (::send(socket.get(), &request, request.header.nlmsg_len, 0) < 0)
    return base::fail_errno(errno, "ask for a route");
  alignas(nlmsghdr) std::array<std::uint8_t, 1024> answer{};
  const ssize_t size = ::recv(socket.get(), answer.data(), answer.size(), 0);
  if (size < 0) return base::fail_errno(errno, "hear of a route");
  nlmsghdr header;
  nlmsgerr error;
  if (static_cast<std::size_t>(size) < NLMSG_LENGTH(sizeof(error))) return base::fail_errno(EBADMSG, "hear of a route");
  std::memcpy(&header, answer.data(), sizeof(header));
  std::memcpy(&error, answer.data() + NLMSG_HDRLEN, sizeof(error));
  if (header.nlmsg_type != NLMSG_ERROR) return base::fail_errno(EBADMSG, "hear of a route");
  return -error.error;
}

}  // namespace

base::Result<void> add_unreachable_route(const base::IpAddress& ip, unsigned bits) {
  const int errnum = MESH_TRY(change_route(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, ip, bits));
  if (errnum == 0 || errnum == EEXIST) return {};
  return base::fail_errno(errnum, fmt::format("make {}/{} unreachable without the mesh", ip.to_string(), bits),
                          "let the agent have CAP_NET_ADMIN, or set agent.vip_route: false");
}

base::Result<void> remove_unreachable_route(const base::IpAddress& ip, unsigned bits) {
  const int errnum = MESH_TRY(change_route(RTM_DELROUTE, 0, ip, bits));
  if (errnum == 0 || errnum == ESRCH || errnum == ENOENT) return {};
  return base::fail_errno(errnum, fmt::format("take the route to {}/{} away", ip.to_string(), bits));
}

}  // namespace mesh::datapath

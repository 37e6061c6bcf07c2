// SPDX-License-Identifier: Apache-2.0
// connect() and getpeername() through the real hooks, for every kind of socket.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>

#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

constexpr std::uint8_t kTcp = IPPROTO_TCP;
constexpr std::uint8_t kUdp = IPPROTO_UDP;
const base::SocketAddress kVip4 = at("240.64.0.10:80");
const base::SocketAddress kVip6 = at("[fd00:6d::10]:80");

class ConnectTest : public MeshTest {};

struct Row {
  const char* description;
  int family, type, protocol;
  bool v6_service;
};

TEST_F(ConnectTest, every_connected_socket_reaches_the_backend_and_sees_the_service) {
  const Server tcp4 = tcp_server("127.0.0.1"), tcp6 = tcp_server("::1");
  const Server udp4 = udp_server("127.0.0.1"), udp6 = udp_server("::1");
  tables_->add_service(kVip4, kTcp, {tcp4.address});
  tables_->add_service(kVip6, kTcp, {tcp6.address});
  tables_->add_service(kVip4, kUdp, {udp4.address});
  tables_->add_service(kVip6, kUdp, {udp6.address});
  const Row rows[] = {
      {"TCP over IPv4", AF_INET, SOCK_STREAM, 0, false},
      {"TCP over IPv6", AF_INET6, SOCK_STREAM, 0, true},
      {"TCP over IPv4 through an AF_INET6 socket", AF_INET6, SOCK_STREAM, 0, false},
      {"connected UDP over IPv4", AF_INET, SOCK_DGRAM, 0, false},
      {"connected UDP over IPv6", AF_INET6, SOCK_DGRAM, 0, true},
      {"connected UDP over IPv4 through an AF_INET6 socket", AF_INET6, SOCK_DGRAM, 0, false},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.description);
    const base::SocketAddress& vip = row.v6_service ? kVip6 : kVip4;
    const base::Fd fd = open_socket(row.family, row.type, row.protocol);
    ASSERT_EQ(connect_to(fd, vip), 0);
    EXPECT_EQ(peer_of(fd), vip);
    EXPECT_EQ(owners(), 1U);
    if (row.type == SOCK_DGRAM) {
      ASSERT_EQ(::send(fd.get(), "ping", 4, 0), 4);
      const Server& server = row.v6_service ? udp6 : udp4;
      const Datagram at_server = receive(server.fd);
      EXPECT_EQ(at_server.text, "ping");
      ASSERT_EQ(send_to(server.fd, at_server.from, "pong"), 0);
      const Datagram reply = receive(fd);
      EXPECT_EQ(reply.text, "pong");
      EXPECT_EQ(reply.from, vip) << "recvfrom() on a connected socket says the service too";
    }
  }
  EXPECT_EQ(owners(), 0U) << "closed sockets leave no record";
}

TEST_F(ConnectTest, a_destination_that_is_no_service_is_untouched) {
  const Server server = tcp_server();
  tables_->add_service(kVip4, kTcp, {server.address});
  const base::Fd fd = open_socket(AF_INET, SOCK_STREAM);
  ASSERT_EQ(connect_to(fd, server.address), 0);
  EXPECT_EQ(peer_of(fd), server.address);
  const base::Fd other_port = open_socket(AF_INET, SOCK_STREAM);
  EXPECT_NE(connect_to(other_port, at("240.64.0.10:81")), 0) << "same address, another port: not the service";
  EXPECT_EQ(owners(), 0U);
}

TEST_F(ConnectTest, a_service_without_backends_refuses_at_once) {
  const std::uint32_t id = tables_->add_service(kVip4, kTcp, {});
  const base::Fd fd = open_socket(AF_INET, SOCK_STREAM);
  EXPECT_EQ(connect_to(fd, kVip4), ECONNREFUSED);
  EXPECT_EQ(reason(MESH_REASON_NO_BACKEND), 1U);
  EXPECT_EQ(live(id).refused, 1U);
  EXPECT_EQ(live(id).refused_no_backend, 1U);
}

TEST_F(ConnectTest, round_robin_takes_turns) {
  const Server a = tcp_server(), b = tcp_server(), c = tcp_server();
  const std::uint32_t id = tables_->add_service(kVip4, kTcp, {a.address, b.address, c.address});
  for (int i = 0; i < 9; ++i) ASSERT_EQ(connect_to(open_socket(AF_INET, SOCK_STREAM), kVip4), 0);
  for (const std::uint32_t backend : tables_->backends_of(id)) EXPECT_EQ(opened(backend), 3U);
  EXPECT_EQ(live(id).connects, 9U);
}

}  // namespace
}  // namespace mesh::test

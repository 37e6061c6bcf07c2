// SPDX-License-Identifier: Apache-2.0
// Unconnected UDP: sendto() to services, recvfrom() of their answers.
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

constexpr std::uint8_t kUdp = IPPROTO_UDP;

class DatagramTest : public MeshTest {
 protected:
  /// Sends to `vip` and lets `server` answer to whoever sent.
  Datagram ask(const base::Fd& fd, const base::SocketAddress& vip, const Server& server) {
    EXPECT_EQ(send_to(fd, vip, "ping"), 0);
    const Datagram question = receive(server.fd);
    EXPECT_EQ(question.text, "ping");
    EXPECT_EQ(send_to(server.fd, question.from, "pong"), 0);
    return receive(fd);
  }
};

TEST_F(DatagramTest, answers_come_from_the_service) {
  const Server v4 = udp_server("127.0.0.1"), v6 = udp_server("::1");
  const base::SocketAddress vip4 = at("240.64.0.20:53"), vip6 = at("[fd00:6d::20]:53");
  const std::uint32_t id = tables_->add_service(vip4, kUdp, {v4.address});
  tables_->add_service(vip6, kUdp, {v6.address});
  EXPECT_EQ(ask(open_socket(AF_INET, SOCK_DGRAM), vip4, v4).from, vip4);
  EXPECT_EQ(ask(open_socket(AF_INET6, SOCK_DGRAM), vip6, v6).from, vip6);
  EXPECT_EQ(ask(open_socket(AF_INET6, SOCK_DGRAM), vip4, v4).from, vip4) << "IPv4 through an AF_INET6 socket";
  EXPECT_EQ(live(id).datagrams, 2U);
}

TEST_F(DatagramTest, no_service_no_change_and_no_backend_no_send) {
  const Server server = udp_server();
  const base::Fd fd = open_socket(AF_INET, SOCK_DGRAM);
  EXPECT_EQ(ask(fd, server.address, server).from, server.address);
  tables_->add_service(at("240.64.0.20:53"), kUdp, {});
  EXPECT_EQ(send_to(fd, at("240.64.0.20:53"), "x"), ECONNREFUSED);
}

TEST_F(DatagramTest, a_socket_keeps_its_backend_while_it_is_usable) {
  const Server a = udp_server(), b = udp_server();
  const base::SocketAddress vip = at("240.64.0.20:53");
  const std::uint32_t id = tables_->add_service(vip, kUdp, {a.address, b.address});
  const base::Fd fd = open_socket(AF_INET, SOCK_DGRAM);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(ask(fd, vip, a).from, vip);

  // a leaves the tables; what it still says is the service's word, and so is what b says from now on.
  ASSERT_EQ(send_to(fd, vip, "late"), 0);
  const Datagram question = receive(a.fd);
  const auto ids = tables_->backends_of(id);
  tables_->set_backend_flags(ids[0], 0);
  tables_->publish(id, {ids[1]});
  EXPECT_EQ(ask(fd, vip, b).from, vip);
  ASSERT_EQ(send_to(a.fd, question.from, "late answer"), 0);
  const Datagram late = receive(fd);
  EXPECT_EQ(late.text, "late answer");
  EXPECT_EQ(late.from, vip);
}

TEST_F(DatagramTest, one_socket_talks_to_many_services) {
  std::vector<Server> servers;
  std::vector<base::SocketAddress> vips;
  for (unsigned i = 0; i < MESH_UDP_PEERS + 8; ++i) {
    servers.push_back(udp_server());
    vips.push_back(at("240.64.1." + std::to_string(i) + ":53"));
    tables_->add_service(vips.back(), kUdp, {servers.back().address});
  }
  const base::Fd fd = open_socket(AF_INET, SOCK_DGRAM);
  for (unsigned i = 0; i < MESH_UDP_PEERS; ++i) EXPECT_EQ(ask(fd, vips[i], servers[i]).from, vips[i]);
  for (unsigned i = 0; i < MESH_UDP_PEERS; ++i) EXPECT_EQ(ask(fd, vips[i], servers[i]).from, vips[i]) << "again";
  EXPECT_EQ(reason(MESH_REASON_UDP_PEERS_FULL), 0U);
  for (unsigned i = MESH_UDP_PEERS; i < vips.size(); ++i) EXPECT_EQ(ask(fd, vips[i], servers[i]).from, vips[i]);
  EXPECT_EQ(reason(MESH_REASON_UDP_PEERS_FULL), 8U) << "the oldest eight were forgotten, and that was counted";
  EXPECT_EQ(ask(fd, vips[0], servers[0]).from, vips[0]) << "remembered anew";
}

TEST_F(DatagramTest, a_connected_socket_may_also_send_elsewhere) {
  const Server a = udp_server(), b = udp_server();
  const base::SocketAddress connected = at("240.64.0.20:53"), named = at("240.64.0.21:53");
  tables_->add_service(connected, kUdp, {a.address});
  tables_->add_service(named, kUdp, {b.address});
  const base::Fd fd = open_socket(AF_INET, SOCK_DGRAM);
  ASSERT_EQ(connect_to(fd, connected), 0);
  ASSERT_EQ(send_to(fd, named, "ping"), 0);
  EXPECT_EQ(receive(b.fd).text, "ping");
  ASSERT_EQ(::send(fd.get(), "ping", 4, 0), 4);
  const Datagram question = receive(a.fd);
  ASSERT_EQ(send_to(a.fd, question.from, "pong"), 0);
  EXPECT_EQ(receive(fd).from, connected);
  EXPECT_EQ(peer_of(fd), connected);
}

}  // namespace
}  // namespace mesh::test

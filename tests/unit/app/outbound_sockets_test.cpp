// SPDX-License-Identifier: Apache-2.0
#include "app/outbound_sockets.hpp"

#include <gtest/gtest.h>

namespace mesh::app {
namespace {

TEST(OutboundSocket, its_name_says_all_of_it) {
  const OutboundSocket socket{4026531840, *base::SocketAddress::parse("[::1]:15400"), "[fd00::1]:443"};
  EXPECT_EQ(socket.name(), "out 4026531840 [::1]:15400 [fd00::1]:443");
  EXPECT_EQ(OutboundSocket::parse(socket.name()), socket);
  for (const char* other :
       {"", "tickets", "listen 0.0.0.0:443", "out x 127.0.0.1:1 a", "out 1 localhost:1 a", "out 1"}) {
    EXPECT_FALSE(OutboundSocket::parse(other)) << other;
  }
}

TEST(OwnerSocket, its_name_says_where) {
  EXPECT_EQ(parse_owner_socket(owner_socket_name(4026531840)), 4026531840U);
  for (const char* other : {"", "owners", "owners x", "out 1 127.0.0.1:1 a"}) EXPECT_FALSE(parse_owner_socket(other));
}

}  // namespace
}  // namespace mesh::app

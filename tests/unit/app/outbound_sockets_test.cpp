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

}  // namespace
}  // namespace mesh::app

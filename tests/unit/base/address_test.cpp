// SPDX-License-Identifier: Apache-2.0
#include "base/address.hpp"

#include <gtest/gtest.h>

namespace mesh::base {
namespace {

TEST(SocketAddress, text_survives_a_round_trip) {
  for (const char* text : {"10.0.0.1:80", "[fd00::1]:65535", "[::]:1", "0.0.0.0:1"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_TRUE(address) << address.error().to_string();
    EXPECT_EQ(address->to_string(), text);
    sockaddr_storage storage;
    address->to_sockaddr(storage);
    EXPECT_EQ(SocketAddress::from_sockaddr(storage), *address);
  }
}

TEST(SocketAddress, a_v4_mapped_address_is_the_v4_address) {
  EXPECT_EQ(SocketAddress::parse("[::ffff:10.0.0.1]:80"), SocketAddress::parse("10.0.0.1:80"));
}

TEST(SocketAddress, wrong_text_is_refused_with_a_remedy) {
  for (const char* text : {"", "10.0.0.1", "10.0.0.1:", "10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:+80", "fd00::1:80",
                           "[10.0.0.1]:80", "10.0.0.256:80", "host:80", "[fd00::1%eth0]:80"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_FALSE(address) << text;
    EXPECT_EQ(address.error().kind, ErrorKind::kInvalid);
    EXPECT_FALSE(address.error().remedy.empty());
  }
}

}  // namespace
}  // namespace mesh::base

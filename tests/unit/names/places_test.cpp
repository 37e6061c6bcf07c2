// SPDX-License-Identifier: Apache-2.0
#include "names/places.hpp"

#include <gtest/gtest.h>

namespace mesh::names {
namespace {

std::string texts(const std::vector<base::SocketAddress>& addresses) {
  std::string all;
  for (const auto& address : addresses) all += address.to_string() + " ";
  return all;
}

TEST(ResolvConf, names_resolvers) {
  EXPECT_EQ(texts(parse_resolv_conf("# by hand\nsearch example.com\nnameserver 10.0.0.2\n\tnameserver  fd00::2 # six\n"
                                    "nameserver 10.0.0.2\noptions ndots:5\n")),
            "10.0.0.2:53 [fd00::2]:53 ");
}

TEST(ResolvConf, leaves_out_what_is_no_address) {
  EXPECT_EQ(texts(parse_resolv_conf("nameserver\nnameserver fe80::1%eth0\nnameserver 0.0.0.0\nnameservers 10.0.0.1\n")),
            "");
  EXPECT_EQ(texts(parse_resolv_conf("")), "");
}

TEST(ResolvConf, has_few) {
  std::string text;
  for (int i = 1; i < 100; ++i) text += "nameserver 10.0.0." + std::to_string(i) + "\n";
  EXPECT_EQ(parse_resolv_conf(text).size(), 4U);
}

TEST(ResolverPorts, are_kept_and_limited) {
  ResolverPorts ports(15353);
  const auto resolver = [](unsigned i) {
    return base::SocketAddress::parse("10.0.0." + std::to_string(i) + ":53").value();
  };
  for (unsigned i = 1; i <= kResolversMax; ++i) EXPECT_EQ(ports.port_of(resolver(i)), 15352U + i);
  EXPECT_EQ(ports.port_of(resolver(200)), 0U);
  EXPECT_EQ(ports.port_of(resolver(1)), 15353U);
  EXPECT_EQ(ports.all().size(), kResolversMax);
}

}  // namespace
}  // namespace mesh::names

// SPDX-License-Identifier: Apache-2.0
#include "app/target.hpp"

#include <gtest/gtest.h>

#include "app/canary_runner.hpp"
#include "app/internal_source.hpp"

namespace mesh::app {
namespace {

model::ServicePtr service(const char* name, const char* address, std::string_view source = "file") {
  auto made = std::make_shared<model::Service>();
  made->name = name;
  made->frontend.address = *base::SocketAddress::parse(address);
  made->source = source;
  return made;
}

TEST(Target, what_people_write_is_understood) {
  EXPECT_EQ(Target::parse("orders")->name, "orders");
  EXPECT_EQ(Target::parse("orders")->port, std::nullopt);
  EXPECT_EQ(Target::parse("orders:80")->port, 80);
  EXPECT_EQ(Target::parse("http://orders/path?x=1")->port, 80);
  EXPECT_EQ(Target::parse("https://user@orders:8443/")->port, 8443);
  EXPECT_EQ(Target::parse("240.64.0.10:80")->address->to_string(), "240.64.0.10:80");
  EXPECT_EQ(Target::parse("http://240.64.0.10/")->address->to_string(), "240.64.0.10:80");
  EXPECT_EQ(Target::parse("[fd00::1]:80")->address->to_string(), "[fd00::1]:80");
  EXPECT_EQ(Target::parse("http://[fd00::1]/")->address->to_string(), "[fd00::1]:80");
}

TEST(Target, what_cannot_be_meant_is_refused_with_a_remedy) {
  for (const char* text : {"", "240.64.0.10", "orders:0", "orders:x", "http:///path"}) {
    const auto target = Target::parse(text);
    ASSERT_FALSE(target) << text;
    EXPECT_FALSE(target.error().remedy.empty()) << text;
  }
  EXPECT_EQ(Target::parse("fd6d:6573:6864::5").error().remedy, "write it as [fd6d:6573:6864::5]:80");
}

TEST(Target, names_find_all_their_ports_and_never_the_canary) {
  model::Snapshot snapshot;
  snapshot.services = {service("orders", "240.64.0.10:80"), service("orders", "240.64.0.10:443"),
                       service("meshd-canary", "240.79.255.254:4240", kInternalSource)};
  EXPECT_EQ(find_services(snapshot, *Target::parse("orders"))->size(), 2u);
  EXPECT_EQ(find_services(snapshot, *Target::parse("orders:443"))->size(), 1u);
  EXPECT_EQ(find_services(snapshot, *Target::parse("meshd-canary")).error().kind, base::ErrorKind::kNotFound);
  EXPECT_TRUE(find_services(snapshot, *Target::parse("10.0.0.1:80"))->empty());
  EXPECT_NE(find_services(snapshot, *Target::parse("orders:81")).error().remedy.find("240.64.0.10:80/tcp"),
            std::string::npos);
  EXPECT_EQ(find_services(snapshot, *Target::parse("order")).error().remedy, "did you mean 'orders'?");
}

}  // namespace
}  // namespace mesh::app

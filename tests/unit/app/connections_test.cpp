// SPDX-License-Identifier: Apache-2.0
#include "app/connections.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/support/routing_builder.hpp"

namespace mesh::app {
namespace {

mesh_owner owner(const std::string& frontend, const std::string& backend, std::uint32_t pid) {
  mesh_owner record{};
  const auto from = support::address(frontend);
  const auto to = support::address(backend);
  std::memcpy(record.frontend_addr, from.ip.bytes.data(), sizeof(record.frontend_addr));
  std::memcpy(record.backend_addr, to.ip.bytes.data(), sizeof(record.backend_addr));
  record.frontend_port_be = htons(from.port);
  record.backend_port_be = htons(to.port);
  record.proto = IPPROTO_TCP;
  record.flags = MESH_OWNER_FEEDBACK;
  record.pid = pid;
  std::memcpy(record.comm, "a name of 16 by.", sizeof(record.comm));
  return record;
}

bool matches(const api::ConnectionFilter& filter, const mesh_owner& record, std::string_view name) {
  const auto matcher = ConnectionMatcher::make(filter);
  EXPECT_TRUE(matcher) << matcher.error().to_string();
  return matcher->matches(record, name);
}

TEST(Connections, a_record_reads_as_the_addresses_and_the_process_it_was_made_of) {
  const auto record = owner("[fd00::1]:80", "[fd00::2]:8080", 7);
  EXPECT_EQ(frontend_of(record).to_string(), "[fd00::1]:80/tcp");
  EXPECT_EQ(backend_of(record).to_string(), "[fd00::2]:8080");
  EXPECT_EQ(process_of(record), "a name of 16 by.") << "a name may fill its field";
}

TEST(Connections, filters_say_who_and_all_of_them_count) {
  const auto record = owner("240.64.0.10:80", "10.0.0.1:8080", 7);
  for (const api::ConnectionFilter& filter :
       std::initializer_list<api::ConnectionFilter>{{},
                                                    {.service = "orders"},
                                                    {.service = "orders:80"},
                                                    {.service = "240.64.0.10:80"},
                                                    {.backend = "10.0.0.1"},
                                                    {.backend = "10.0.0.1:8080"},
                                                    {.pid = 7},
                                                    {.service = "orders", .backend = "10.0.0.1", .pid = 7}}) {
    EXPECT_TRUE(matches(filter, record, "orders")) << filter.service << " " << filter.backend << " " << filter.pid;
  }
  for (const api::ConnectionFilter& filter :
       std::initializer_list<api::ConnectionFilter>{{.service = "order"},
                                                    {.service = "orders:81"},
                                                    {.service = "240.64.0.11:80"},
                                                    {.backend = "10.0.0.2"},
                                                    {.backend = "10.0.0.1:80"},
                                                    {.pid = 8},
                                                    {.service = "orders", .pid = 8}}) {
    EXPECT_FALSE(matches(filter, record, "orders")) << filter.service << " " << filter.backend << " " << filter.pid;
  }
  EXPECT_FALSE(ConnectionMatcher::make({.backend = "nonsense"}));
}

TEST(Connections, a_record_without_feedback_has_no_process_to_ask_for) {
  auto record = owner("240.64.0.10:80", "10.0.0.1:8080", 7);
  record.flags = 0;
  EXPECT_TRUE(matches({.service = "orders"}, record, "orders"));
  EXPECT_FALSE(matches({.pid = 7}, record, "orders"));
}

TEST(Connections, a_cgroup_is_a_path_with_what_is_below_or_a_part_of_it) {
  for (const char* wanted : {"/", "/a.slice", "/a.slice/b.service", "b.service", "a.slice"}) {
    EXPECT_TRUE(cgroup_matches("/a.slice/b.service", wanted)) << wanted;
  }
  for (const char* wanted : {"/a", "/a.slice/b", "b", "c"})
    EXPECT_FALSE(cgroup_matches("/a.slice/b.service", wanted)) << wanted;
  EXPECT_FALSE(cgroup_matches("", "/")) << "one that is gone is nowhere";
}

TEST(Connections, names_know_the_canarys_services_and_those_that_are_gone) {
  auto snapshot = std::make_shared<model::Snapshot>();
  auto orders = std::make_shared<model::Service>(support::service({"240.64.0.10:80", {}}));
  orders->name = "orders";
  auto canary = std::make_shared<model::Service>(support::service({"240.64.0.11:80", {}}));
  canary->source = "canary";
  snapshot->services = {orders, canary};
  const ServiceNames names(snapshot, "canary");
  EXPECT_EQ(names.name(orders->frontend), "orders");
  EXPECT_EQ(names.name(canary->frontend), std::nullopt);
  EXPECT_EQ(names.name(frontend_of(owner("240.64.0.12:80", "10.0.0.1:80", 0))), "");
  EXPECT_TRUE(names.expect("orders") && names.expect("") && names.expect("240.64.0.10:80"));
  for (const char* nothing : {"nope", "orders:81", "240.64.0.12:80"}) {
    const auto expected = names.expect(nothing);
    ASSERT_FALSE(expected) << nothing;
    EXPECT_EQ(expected.error().kind, base::ErrorKind::kNotFound);
    EXPECT_FALSE(expected.error().remedy.empty());
  }
}

}  // namespace
}  // namespace mesh::app

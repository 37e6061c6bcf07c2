// SPDX-License-Identifier: Apache-2.0
#include "discovery/dns_book.hpp"

#include <gtest/gtest.h>

#include "discovery/dns.hpp"

namespace mesh::discovery {
namespace {

using namespace std::chrono_literals;

const DnsQuestion kOrders{"orders.example", DnsType::kA};
const DnsQuestion kSrv{"_http._tcp.shop.example", DnsType::kSrv};
const DnsQuestion kTargetA{"a.example", DnsType::kA};
const DnsQuestion kTargetB{"b.example", DnsType::kA};

DnsAnswer addresses(std::vector<const char*> ips, std::uint32_t ttl = 60) {
  DnsAnswer answer;
  answer.ttl_s = ttl;
  for (const char* ip : ips) {
    DnsRecord record;
    record.ip = *base::IpAddress::parse(ip);
    answer.records.push_back(record);
  }
  return answer;
}

DnsRecord srv(const char* target, std::uint16_t priority, std::uint16_t weight, std::uint16_t port = 8080) {
  DnsRecord record;
  record.target = target;
  record.priority = priority;
  record.weight = weight;
  record.port = port;
  return record;
}

DnsAnswer srvs(std::vector<DnsRecord> records) {
  DnsAnswer answer;
  answer.ttl_s = 60;
  answer.records = std::move(records);
  return answer;
}

std::string text(const std::vector<model::Service>& services) {
  std::string all;
  for (const auto& service : services) {
    all += service.name + " " + service.frontend.to_string() + ":";
    for (const auto& endpoint : service.endpoints) {
      all += " " + endpoint.address.to_string() + "*" + std::to_string(endpoint.weight) + "@" +
             std::to_string(endpoint.tier);
    }
    all += "\n";
  }
  return all;
}

class DnsAnswers : public testing::Test {
 protected:
  static DnsSettings host() {
    DnsSettings settings;
    settings.services = {{.name = "orders", .host = "orders.example", .port = 80, .endpoint_port = 8080}};
    return settings;
  }
  static DnsSettings shop() {
    DnsSettings settings;
    settings.services = {{.name = "shop", .srv = "_http._tcp.shop.example", .port = 80}};
    return settings;
  }
  std::vector<DnsQuestion> due(DnsBook& book) { return book.take_due(now_, 100); }
  base::TimePoint now_{1000h};
};

TEST_F(DnsAnswers, asks_again_when_the_ttl_is_over_between_floor_and_cap_with_jitter) {
  for (const auto& [ttl, least, most] : {std::tuple{60U, 54s, 66s}, {0U, 4s, 6s}, {86'400U, 270s, 330s}}) {
    DnsBook book(host(), {}, {}, 7);
    EXPECT_FALSE(book.complete());
    EXPECT_EQ(due(book), std::vector{kOrders});
    EXPECT_TRUE(due(book).empty()) << "it is being asked";
    book.answer(kOrders, addresses({"10.0.0.1"}, ttl), now_);
    EXPECT_TRUE(book.complete());
    EXPECT_GE(book.next_due() - now_, least) << ttl;
    EXPECT_LE(book.next_due() - now_, most) << ttl;
  }
}

TEST_F(DnsAnswers, addresses_become_endpoints_and_a_change_is_a_change) {
  DnsBook book(host(), {}, {}, 7);
  due(book);
  book.answer(kOrders, addresses({"10.0.0.2", "10.0.0.1"}), now_);
  EXPECT_TRUE(book.changed());
  EXPECT_EQ(text(book.services()), "orders 0.0.0.0:80/tcp: 10.0.0.1:8080*1@0 10.0.0.2:8080*1@0\n");
  book.answer(kOrders, addresses({"10.0.0.1", "10.0.0.2"}), now_);
  EXPECT_FALSE(book.changed()) << "resolvers rotate";
  book.answer(kOrders, addresses({"10.0.0.1"}), now_);
  EXPECT_TRUE(book.changed());
}

TEST_F(DnsAnswers, none_is_believed_when_it_was_said_often_enough) {
  DnsBook book(host(), {}, {}, 7);
  due(book);
  book.answer(kOrders, addresses({"10.0.0.1"}), now_);
  (void)book.services();
  book.answer(kOrders, addresses({}, 3600), now_);
  EXPECT_FALSE(book.changed());
  EXPECT_LE(book.next_due() - now_, 6s) << "asked again soon";
  book.answer(kOrders, addresses({"10.0.0.1"}), now_);
  book.answer(kOrders, addresses({}), now_);
  EXPECT_FALSE(book.changed()) << "in a row";
  book.answer(kOrders, addresses({}), now_);
  EXPECT_TRUE(book.changed());
  EXPECT_EQ(text(book.services()), "orders 0.0.0.0:80/tcp:\n");

  DnsBook fresh(host(), {}, {}, 7);
  due(fresh);
  fresh.answer(kOrders, addresses({}), now_);
  EXPECT_EQ(text(fresh.services()), "orders 0.0.0.0:80/tcp:\n") << "nothing was known that could be lost";
}

TEST_F(DnsAnswers, a_failure_keeps_what_is_known_and_is_retried_less_and_less) {
  DnsBook book(host(), {}, {}, 7);
  due(book);
  book.answer(kOrders, addresses({"10.0.0.1"}), now_);
  const auto before = text(book.services());
  base::Duration last{};
  for (int i = 0; i < 8; ++i) {
    book.fail(kOrders, now_);
    EXPECT_FALSE(book.changed());
    EXPECT_LE(book.next_due() - now_, 66s);
    if (i < 4) EXPECT_GT(book.next_due() - now_, last);
    last = book.next_due() - now_;
  }
  EXPECT_EQ(book.failing(), 1u);
  EXPECT_EQ(text(book.services()), before);
  book.answer(kOrders, addresses({"10.0.0.1"}), now_);
  EXPECT_EQ(book.failing(), 0u);
}

TEST_F(DnsAnswers, srv_priorities_are_tiers_and_weights_are_weights) {
  DnsBook book(shop(), {}, {}, 7);
  EXPECT_EQ(due(book), std::vector{kSrv});
  book.answer(kSrv, srvs({srv("b.example", 20, 5), srv("a.example", 10, 60), srv("b.example", 10, 0, 8081)}), now_);
  EXPECT_FALSE(book.complete());
  EXPECT_EQ(due(book), (std::vector{kTargetA, kTargetB}));
  book.answer(kTargetA, addresses({"10.0.0.1", "10.0.0.2"}), now_);
  book.answer(kTargetB, addresses({"10.0.1.1"}), now_);
  EXPECT_TRUE(book.complete());
  EXPECT_EQ(text(book.services()),
            "shop 0.0.0.0:80/tcp: 10.0.0.1:8080*3000@0 10.0.0.2:8080*3000@0 10.0.1.1:8081*1@0 10.0.1.1:8080*500@1\n")
      << "two addresses share the weight; zero is small, not nothing";
  book.answer(kSrv, srvs({srv("", 0, 0)}), now_);
  EXPECT_EQ(text(book.services()), "shop 0.0.0.0:80/tcp:\n") << "'.': the service is not here";
  EXPECT_EQ(book.questions(), 1u) << "nobody asks for targets that are gone";
}

TEST_F(DnsAnswers, what_came_along_saves_the_question) {
  DnsBook book(shop(), {}, {}, 7);
  due(book);
  DnsAnswer answer = srvs({srv("a.example", 10, 60), srv("b.example", 10, 60)});
  DnsRecord along;
  along.ip = *base::IpAddress::parse("10.0.0.1");
  answer.additional.push_back({kTargetA, along, 60});
  book.answer(kSrv, answer, now_);
  EXPECT_EQ(due(book), std::vector{kTargetB});
}

TEST_F(DnsAnswers, a_target_that_cannot_be_asked_costs_only_itself) {
  DnsBook book(shop(), {}, {}, 7);
  due(book);
  book.answer(kSrv, srvs({srv("a.example", 10, 1), srv("b.example", 10, 1)}), now_);
  due(book);
  book.answer(kTargetA, addresses({"10.0.0.1"}), now_);
  book.fail(kTargetB, now_);
  EXPECT_TRUE(book.complete());
  EXPECT_EQ(text(book.services()), "shop 0.0.0.0:80/tcp: 10.0.0.1:8080*100@0\n");
  book.answer(kTargetB, addresses({"10.0.0.2"}), now_);
  book.fail(kTargetA, now_);
  EXPECT_EQ(text(book.services()), "shop 0.0.0.0:80/tcp: 10.0.0.1:8080*100@0 10.0.0.2:8080*100@0\n");
}

TEST_F(DnsAnswers, what_cannot_be_asked_after_a_restart_is_as_it_was_before) {
  model::Service old;
  old.name = "orders";
  old.frontend.address = *base::SocketAddress::parse("240.65.0.7:80");
  old.endpoints = {{.address = *base::SocketAddress::parse("10.0.0.9:8080")}};
  DnsBook book(host(), {}, {std::make_shared<const model::Service>(old)}, 7);
  due(book);
  book.fail(kOrders, now_);
  EXPECT_TRUE(book.complete());
  EXPECT_EQ(text(book.services()), "orders 0.0.0.0:80/tcp: 10.0.0.9:8080*1@0\n");
  DnsBook without(host(), {}, {}, 7);
  due(without);
  without.fail(kOrders, now_);
  EXPECT_FALSE(without.answered()) << "so there is nothing to publish: never known is not empty";
  EXPECT_TRUE(without.services().empty());
}

TEST_F(DnsAnswers, both_families_are_two_services_each_with_its_own_records) {
  DnsSettings settings = host();
  settings.services[0].family = DnsFamily::kBoth;
  DnsBook book(settings, {}, {}, 7);
  const DnsQuestion v6{"orders.example", DnsType::kAaaa};
  EXPECT_EQ(due(book), (std::vector{kOrders, v6}));
  book.answer(kOrders, addresses({"10.0.0.1"}), now_);
  book.fail(v6, now_);
  EXPECT_EQ(text(book.services()), "orders 0.0.0.0:80/tcp: 10.0.0.1:8080*1@0\n");
  book.answer(v6, addresses({"fd00::1"}), now_);
  EXPECT_EQ(text(book.services()),
            "orders 0.0.0.0:80/tcp: 10.0.0.1:8080*1@0\norders [::]:80/tcp: [fd00::1]:8080*1@0\n");
}

TEST_F(DnsAnswers, other_resolvers_are_asked_everything_again) {
  DnsBook book(host(), {}, {}, 7);
  due(book);
  book.answer(kOrders, addresses({"10.0.0.1"}), now_);
  EXPECT_TRUE(due(book).empty());
  book.ask_all_again(now_);
  EXPECT_EQ(due(book), std::vector{kOrders});
  book.forget_asked();
  EXPECT_EQ(due(book), std::vector{kOrders}) << "the old resolvers will not answer";
}

TEST(ResolvConf, has_nameservers_in_order_and_at_most_eight) {
  const auto servers = parse_resolv_conf(
      "# comment\nsearch example\nnameserver 10.0.0.53\nnameserver\tfd00::53 \nnameserverx 1.1.1.1\nnameserver "
      "fe80::1%eth0\n"
      "nameserver [fd00::54]:5353\r\noptions edns0");
  ASSERT_EQ(servers.size(), 3u);
  EXPECT_EQ(servers[0].to_string(), "10.0.0.53:53");
  EXPECT_EQ(servers[1].to_string(), "[fd00::53]:53");
  EXPECT_EQ(servers[2].to_string(), "[fd00::54]:5353");
  std::string many;
  for (int i = 0; i < 20; ++i) many += "nameserver 10.0.0.1\n";
  EXPECT_EQ(parse_resolv_conf(many).size(), 8u);
}

}  // namespace
}  // namespace mesh::discovery

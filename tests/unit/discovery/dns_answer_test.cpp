// SPDX-License-Identifier: Apache-2.0
#include "discovery/dns_answer.hpp"

#include <gtest/gtest.h>

#include "base/random.hpp"
#include "tests/support/dns_message.hpp"

namespace mesh::discovery {
namespace {

using support::DnsMessage;

const DnsQuestion kA{"orders.example", DnsType::kA};
const DnsQuestion kSrv{"_http._tcp.orders.example", DnsType::kSrv};

std::string ips(const DnsAnswer& answer) {
  std::string text;
  for (const DnsRecord& record : answer.records) text += record.ip.to_string() + " ";
  return text;
}

TEST(DnsAnswer, has_the_addresses_of_the_name_and_the_least_ttl) {
  const auto answer = parse_dns_answer(DnsMessage("orders.example", DnsMessage::kA)
                                           .address("Orders.Example", "10.0.0.1", 60)
                                           .address("orders.example", "10.0.0.2", 30)
                                           .address("other.example", "10.0.0.3", 1)
                                           .bytes(),
                                       kA);
  ASSERT_TRUE(answer) << answer.error().message;
  EXPECT_EQ(ips(*answer), "10.0.0.1 10.0.0.2 ");
  EXPECT_EQ(answer->ttl_s, 30u);
  const auto v6 =
      parse_dns_answer(DnsMessage("orders.example", DnsMessage::kAaaa).address("orders.example", "fd00::1", 5).bytes(),
                       {"orders.example", DnsType::kAaaa});
  EXPECT_EQ(ips(*v6), "fd00::1 ");
}

TEST(DnsAnswer, follows_cnames_in_any_order_but_not_for_ever) {
  const auto answer = parse_dns_answer(DnsMessage("orders.example", DnsMessage::kA)
                                           .address("c.example", "10.0.0.1", 60)
                                           .cname("b.example", "c.example", 20)
                                           .cname("orders.example", "b.example", 40)
                                           .bytes(),
                                       kA);
  ASSERT_TRUE(answer);
  EXPECT_EQ(ips(*answer), "10.0.0.1 ");
  EXPECT_EQ(answer->ttl_s, 20u) << "a CNAME that changes changes all";
  DnsMessage loop("orders.example", DnsMessage::kA);
  loop.cname("orders.example", "b.example", 9).cname("b.example", "orders.example", 9);
  EXPECT_EQ(parse_dns_answer(loop.bytes(), kA).error().kind, base::ErrorKind::kInvalid);
}

TEST(DnsAnswer, srv_has_priorities_weights_and_what_came_along_for_its_targets) {
  const auto answer =
      parse_dns_answer(DnsMessage(kSrv.name, DnsMessage::kSrv)
                           .srv(kSrv.name, 10, 60, 8080, "A.example", 100)
                           .srv(kSrv.name, 20, 0, 8081, "", 90)
                           .address("a.example", "10.0.0.1", 50, DnsMessage::Section::kAdditional)
                           .address("stranger.example", "10.9.9.9", 50, DnsMessage::Section::kAdditional)
                           .bytes(),
                       kSrv);
  ASSERT_TRUE(answer) << answer.error().message;
  ASSERT_EQ(answer->records.size(), 2u);
  EXPECT_EQ(answer->records[0].target, "a.example");
  EXPECT_EQ(answer->records[0].priority, 10);
  EXPECT_EQ(answer->records[0].weight, 60);
  EXPECT_EQ(answer->records[0].port, 8080);
  EXPECT_EQ(answer->records[1].target, "") << "'.' says: not here";
  ASSERT_EQ(answer->additional.size(), 1u) << "nobody asked for a stranger";
  EXPECT_EQ(answer->additional[0].question, (DnsQuestion{"a.example", DnsType::kA}));
}

TEST(DnsAnswer, none_is_good_for_as_long_as_the_soa_says) {
  for (const std::uint16_t flags : {std::uint16_t{0x8180}, std::uint16_t{0x8183}}) {  // NODATA, NXDOMAIN
    const auto answer =
        parse_dns_answer(DnsMessage("orders.example", DnsMessage::kA, flags).soa("example", 300, 25).bytes(), kA);
    ASSERT_TRUE(answer);
    EXPECT_TRUE(answer->records.empty());
    EXPECT_EQ(answer->ttl_s, 25u);
  }
}

TEST(DnsAnswer, what_is_no_answer_is_an_error_that_keeps_what_is_known) {
  const auto kind = [](std::uint16_t flags) {
    return parse_dns_answer(
               DnsMessage("orders.example", DnsMessage::kA, flags).address("orders.example", "10.0.0.1", 60).bytes(),
               kA)
        .error()
        .kind;
  };
  EXPECT_EQ(kind(0x8182), base::ErrorKind::kUnavailable) << "SERVFAIL";
  EXPECT_EQ(kind(0x8185), base::ErrorKind::kUnavailable) << "REFUSED";
  EXPECT_EQ(kind(0x8380), base::ErrorKind::kInvalid) << "truncated: records may be missing";
  EXPECT_EQ(kind(0x0100), base::ErrorKind::kInvalid) << "a question";
}

TEST(DnsAnswer, no_damage_does_damage) {
  const auto good = DnsMessage(kSrv.name, DnsMessage::kSrv)
                        .srv(kSrv.name, 10, 60, 8080, "a.example", 100)
                        .cname("x.example", "y.example", 1)
                        .address("a.example", "10.0.0.1", 50, DnsMessage::Section::kAdditional)
                        .bytes();
  for (std::size_t size = 0; size < good.size(); ++size) {
    (void)parse_dns_answer({good.data(), size}, kSrv);
  }
  const std::uint64_t seed = 20261121;
  RecordProperty("seed", std::to_string(seed));
  base::Random random(seed);
  for (int round = 0; round < 20'000; ++round) {
    auto damaged = good;
    for (int hit = 0; hit < 3; ++hit) damaged[random.below(damaged.size())] = static_cast<std::uint8_t>(random.next());
    const auto answer = parse_dns_answer(damaged, kSrv);
    if (answer) ASSERT_LE(answer->records.size(), kMaxDnsRecords);
  }
}

}  // namespace
}  // namespace mesh::discovery

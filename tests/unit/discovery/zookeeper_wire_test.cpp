// SPDX-License-Identifier: Apache-2.0
#include "discovery/zookeeper_wire.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/zookeeper_bytes.hpp"

namespace mesh::discovery {
namespace {

using namespace test::jute;
using testing::ElementsAre;
using testing::HasSubstr;

std::string hex(const std::string& bytes) {
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const char c : bytes) {
    text += kDigits[static_cast<unsigned char>(c) >> 4];
    text += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

TEST(ZookeeperWire, requests_have_the_bytes_of_the_protocol) {
  EXPECT_EQ(hex(zookeeper_ping()), "00000008fffffffe0000000b");
  EXPECT_EQ(hex(zookeeper_close(5)), "0000000800000005fffffff5");
  EXPECT_EQ(hex(zookeeper_read(1, ZookeeperRead::kChildren, "/a")), "0000000f0000000100000008000000022f6101");
  EXPECT_EQ(hex(zookeeper_read(2, ZookeeperRead::kData, "/")), "0000000e0000000200000004000000012f01");
  EXPECT_EQ(hex(zookeeper_read(3, ZookeeperRead::kExists, "/")), "0000000e0000000300000003000000012f01");
  EXPECT_EQ(hex(zookeeper_digest("u:p")),
            "0000001dfffffffc000000640000000000000006646967657374"
            "00000003753a70");
  EXPECT_EQ(hex(zookeeper_hello(0x102, 10'000)), "0000002d00000000000000000000010200002710" + std::string(16, '0') +
                                                     "00000010" + std::string(32, '0') + "00");
}

TEST(ZookeeperWire, a_length_is_refused_that_is_no_answers) {
  EXPECT_EQ(*zookeeper_length(number<std::int32_t>(17), 100), 17U);
  EXPECT_FALSE(zookeeper_length(number<std::int32_t>(-1), 100));
  const auto large = zookeeper_length("HTTP/1.1 400", 4u << 20);
  ASSERT_FALSE(large);
  EXPECT_EQ(large.error().kind, base::ErrorKind::kExhausted);
  EXPECT_THAT(large.error().to_string(), HasSubstr("jute_maxbuffer"));
}

TEST(ZookeeperWire, answers_are_read_whole_or_not_at_all) {
  const std::string welcome =
      number<std::int32_t>(0) + number<std::int32_t>(4000) + number<std::int64_t>(77) + text(std::string(16, 'p'));
  EXPECT_EQ(parse_zookeeper_welcome(welcome)->session_timeout_ms, 4000);
  EXPECT_TRUE(parse_zookeeper_welcome(welcome + '\0')) << "servers since 3.4 add a byte";
  EXPECT_FALSE(parse_zookeeper_welcome(welcome + "xx"));

  const std::string children = reply(7, 99, 0, number<std::int32_t>(2) + text("a") + text("b"));
  const auto header = parse_zookeeper_header(children);
  ASSERT_TRUE(header);
  EXPECT_EQ(header->xid, 7);
  EXPECT_EQ(header->zxid, 99);
  EXPECT_THAT(parse_zookeeper_answer(ZookeeperRead::kChildren, *header)->children, ElementsAre("a", "b"));

  const std::string data = reply(8, 99, 0, text("hello") + stat(55));
  const auto answer = parse_zookeeper_answer(ZookeeperRead::kData, *parse_zookeeper_header(data));
  EXPECT_EQ(answer->data, "hello");
  EXPECT_EQ(answer->zxid, 55);

  const std::string none = reply(9, 99, zookeeper_error::kNoNode);
  EXPECT_EQ(parse_zookeeper_answer(ZookeeperRead::kData, *parse_zookeeper_header(none))->error,
            zookeeper_error::kNoNode);

  const auto news = parse_zookeeper_news(number<std::int32_t>(4) + number<std::int32_t>(3) + text("/a"));
  EXPECT_EQ(news->type, 4);
  EXPECT_EQ(news->path, "/a");

  for (std::size_t cut = 0; cut < children.size(); ++cut) {
    const auto part = parse_zookeeper_header(std::string_view(children).substr(0, cut));
    EXPECT_FALSE(part && parse_zookeeper_answer(ZookeeperRead::kChildren, *part)) << cut;
  }
  for (std::size_t cut = 0; cut < welcome.size(); ++cut) {
    EXPECT_FALSE(parse_zookeeper_welcome(std::string_view(welcome).substr(0, cut))) << cut;
  }
}

TEST(ZookeeperWire, a_count_of_children_that_cant_be_is_refused_before_anything_is_made_of_it) {
  for (const std::int32_t count : {-2, 3, 0x7fffffff}) {
    const std::string bytes = reply(1, 1, 0, number(count) + text("a"));
    EXPECT_FALSE(parse_zookeeper_answer(ZookeeperRead::kChildren, *parse_zookeeper_header(bytes))) << count;
  }
  const std::string slash = reply(1, 1, 0, number<std::int32_t>(1) + text("a/b"));
  EXPECT_FALSE(parse_zookeeper_answer(ZookeeperRead::kChildren, *parse_zookeeper_header(slash)));
}

}  // namespace
}  // namespace mesh::discovery

// SPDX-License-Identifier: Apache-2.0
#include "names/message.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <string>

namespace mesh::names {
namespace {

using Bytes = std::vector<std::byte>;

Bytes bytes(std::string_view text) {
  const auto all = std::as_bytes(std::span(text));
  return {all.begin(), all.end()};
}

/// id 0x1234, recursion desired, one question.
Bytes question(std::string_view wire_name, std::uint8_t type = 1, std::string_view more = {}, char additional = 0) {
  using namespace std::string_literals;
  std::string text = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00"s;
  text += additional;
  text += wire_name;
  text += "\x00"s + static_cast<char>(type) + "\x00\x01"s;
  text += more;
  return bytes(text);
}
const std::string_view kOrders("\6orders\4mesh\0", 13);

std::string text_of(const Bytes& message) { return {reinterpret_cast<const char*>(message.data()), message.size()}; }

TEST(Message, reads_a_plain_question) {
  const Bytes message = question(std::string_view("\6OrDers\4MESH\0", 13), 28);
  const auto query = parse_query(message);
  ASSERT_TRUE(query);
  EXPECT_EQ(query->id, 0x1234);
  EXPECT_TRUE(query->recursion_desired);
  EXPECT_EQ(query->name, "orders.mesh");
  EXPECT_EQ(query->type, Type::kAaaa);
  EXPECT_FALSE(query->edns_size);
  EXPECT_EQ(query->udp_limit(), 512U);
  EXPECT_EQ(query->question.size(), 13U + 4U);
}

TEST(Message, reads_what_the_client_takes_by_udp) {
  using namespace std::string_literals;
  const std::string opt = "\0\0\x29\x10\0\0\0\0\0\0\0"s;  // 4096
  const Bytes message = question(kOrders, 1, opt, 1);
  const auto query = parse_query(message);
  ASSERT_TRUE(query);
  EXPECT_EQ(query->edns_size, 4096);
  EXPECT_EQ(query->udp_limit(), 1232U) << "never so much that it would be cut into fragments";
}

TEST(Message, whatever_is_not_one_plain_question_is_not_read) {
  const Bytes good = question(kOrders);
  ASSERT_TRUE(parse_query(good));
  const auto with = [&](std::size_t at, int value) {
    Bytes changed = good;
    changed[at] = static_cast<std::byte>(value);
    return changed;
  };
  EXPECT_FALSE(parse_query(with(2, 0x81))) << "an answer";
  EXPECT_FALSE(parse_query(with(2, 0x29))) << "opcode UPDATE";
  EXPECT_FALSE(parse_query(with(5, 2))) << "two questions";
  EXPECT_FALSE(parse_query(with(7, 1))) << "an answer in a question";
  EXPECT_FALSE(parse_query(with(good.size() - 1, 3))) << "class CH";
  EXPECT_FALSE(parse_query(with(12, 0xc0))) << "a compressed name";
  EXPECT_FALSE(parse_query(with(13, '.'))) << "a dot inside a label";
  EXPECT_FALSE(parse_query(with(11, 1))) << "an additional record that isn't there";
  for (std::size_t length = 0; length < good.size(); ++length) {
    EXPECT_FALSE(parse_query(std::span(good).first(length))) << length;
  }
}

TEST(Message, writes_an_address_with_the_question_as_it_was_asked) {
  const Bytes message = question(std::string_view("\6OrDers\4MESH\0", 13));
  const auto query = parse_query(message);
  const Answer answer{Rcode::kNoError, {{"orders.mesh", 60, base::IpAddress::parse("240.64.0.10").value()}}, {}, {}};
  const std::string wire = text_of(encode(*query, answer, 512));
  using namespace std::string_literals;
  EXPECT_EQ(wire, "\x12\x34\x85\x80\0\1\0\1\0\0\0\0"s + "\6OrDers\4MESH\0\0\1\0\1"s +
                      "\6orders\4mesh\0\0\1\0\1\0\0\0\x3c\0\4\xf0\x40\0\x0a"s);
}

TEST(Message, leaves_out_whole_sections_that_do_not_fit_and_says_when_answers_are_missing) {
  const Bytes message = question(kOrders);
  const auto query = parse_query(message);
  const Record record{"orders.mesh", 60, base::IpAddress::parse("240.64.0.10").value()};
  const Answer answer{Rcode::kNoError, {record}, {}, std::vector<Record>(20, record)};
  const auto header = [](const Bytes& wire, std::size_t at) { return std::to_integer<int>(wire[at]); };
  const Bytes without_additional = encode(*query, answer, 100);
  EXPECT_LE(without_additional.size(), 100U);
  EXPECT_EQ(header(without_additional, 7), 1);
  EXPECT_EQ(header(without_additional, 11), 0);
  EXPECT_EQ(header(without_additional, 2) & 2, 0) << "whole";
  const Bytes truncated = encode(*query, answer, 40);
  EXPECT_EQ(header(truncated, 7), 0);
  EXPECT_EQ(header(truncated, 2) & 2, 2) << "TC";
}

RC_GTEST_PROP(Message, any_bytes_are_read_without_harm_and_answers_fit, (const std::vector<std::uint8_t>& raw)) {
  const auto message = std::as_bytes(std::span(raw));
  if (const auto query = parse_query(message)) {
    const Answer answer{Rcode::kNoError, {{"a.mesh", 1, Srv{80, "a.mesh"}}}, {}, {}};
    RC_ASSERT(encode(*query, answer, query->udp_limit()).size() <= query->udp_limit());
  }
}

TEST(Name, has_labels_of_1_to_63_bytes_and_253_in_all) {
  EXPECT_TRUE(is_name("orders.mesh"));
  EXPECT_TRUE(is_name(std::string(63, 'a') + ".mesh"));
  EXPECT_FALSE(is_name(std::string(64, 'a') + ".mesh"));
  EXPECT_FALSE(is_name("a..mesh"));
  EXPECT_FALSE(is_name(".mesh"));
  std::string longest;
  while (longest.size() < 252) longest += "a.";
  EXPECT_TRUE(is_name(longest + "a"));
  EXPECT_FALSE(is_name(longest + "a.a"));
}

}  // namespace
}  // namespace mesh::names

// SPDX-License-Identifier: Apache-2.0
#include "cli/render.hpp"

#include <gtest/gtest.h>

#include "cli/cgroup.hpp"
#include "cli/client.hpp"
#include "cli/duration.hpp"

namespace mesh::cli {
namespace {

TEST(Table, aligns_by_display_width) {
  Table table({"NAME", "N"});
  table.add({"日本", "1"});
  table.add({"é", "10"});
  EXPECT_EQ(table.render({}), "NAME   N\n日本   1\né     10\n");
  EXPECT_EQ(table.render({.headers = false}), "日本   1\né     10\n");
}

TEST(Table, colours_do_not_move_columns) {
  Table table({"A", "B"});
  table.add({Cell("x", Colour::kRed), "y"});
  EXPECT_EQ(table.render({.colour = true}), "A  B\n\033[31mx\033[0m  y\n");
}

TEST(Yaml, is_read_back_as_the_same_document) {
  const api::Json document = {{"text", "plain"},
                              {"number", 1},
                              {"like_number", "1"},
                              {"like_bool", "yes"},
                              {"time", "12:30"},
                              {"colon", "a: b"},
                              {"empty", ""},
                              {"none", nullptr},
                              {"list", {1, "two", {{"k", "v"}, {"l", api::Json::array()}}}},
                              {"object", {{"a", {{"b", true}}}, {"e", api::Json::object()}}},
                              {"line", "a\nb"}};
  EXPECT_EQ(to_yaml(document),
            "text: plain\nnumber: 1\nlike_number: \"1\"\nlike_bool: \"yes\"\ntime: \"12:30\"\ncolon: \"a: b\"\n"
            "empty: \"\"\nnone: null\nlist:\n- 1\n- two\n- k: v\n  l: []\nobject:\n  a:\n    b: true\n  e: {}\n"
            "line: \"a\\nb\"\n");
}

TEST(Format, numbers_for_people) {
  EXPECT_EQ(format_percent(1), "100 %");
  EXPECT_EQ(format_percent(1.0 / 3), "33.3 %");
  EXPECT_EQ(format_percent(0.0001), "<0.1 %");
  EXPECT_EQ(format_percent(0), "0 %");
  EXPECT_EQ(format_bytes(1023), "1023 B");
  EXPECT_EQ(format_bytes(8U << 20), "8.0 MiB");
  EXPECT_EQ(format_ago({}), "never");
}

TEST(Duration, is_read_in_units) {
  EXPECT_EQ(parse_duration_s("90s"), 90U);
  EXPECT_EQ(parse_duration_s("1h30m"), 5400U);
  EXPECT_EQ(parse_duration_s("2d"), 172800U);
  for (const char* text : {"", "10", "m", "0s", "-1m", "1w", "99999999999999999999s", "9999999d"}) {
    EXPECT_FALSE(parse_duration_s(text)) << text;
  }
}

TEST(Client, targets_are_percent_encoded) {
  EXPECT_EQ(make_target("/v1/x", {{"a", "b c&d"}, {"none", ""}, {"e", "[::1]:80"}}), "/v1/x?a=b%20c%26d&e=[::1]:80");
}

TEST(Client, an_answer_is_read_whole_or_not_at_all) {
  const auto good = parse_answer("HTTP/1.1 404 Not Found\r\ncontent-LENGTH: 3\r\n\r\nabc");
  ASSERT_TRUE(good);
  EXPECT_EQ(good->status, 404);
  EXPECT_EQ(good->body, "abc");
  for (const char* text :
       {"", "HTTP/1.1 200 OK\r\n", "SSH-2.0-x\r\n\r\n", "HTTP/1.1 xyz\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"}) {
    EXPECT_FALSE(parse_answer(text)) << text;
  }
}

TEST(Client, an_absent_agent_is_unreachable_with_a_remedy) {
  const auto answer = Client("/nonexistent/meshd.sock", std::chrono::milliseconds(100)).get("/v1/status");
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().kind, base::ErrorKind::kUnavailable);
  EXPECT_NE(answer.error().remedy.find("systemctl start meshd"), std::string::npos);
}

TEST(NetworkNamespace, has_a_cookie) {
  const auto cookie = netns_cookie_of(0);
  ASSERT_TRUE(cookie) << cookie.error().to_string();
  EXPECT_GT(*cookie, 0U);
}

}  // namespace
}  // namespace mesh::cli

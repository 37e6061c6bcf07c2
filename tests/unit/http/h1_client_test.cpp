// SPDX-License-Identifier: Apache-2.0
#include "http/h1_client.hpp"

#include <gtest/gtest.h>

namespace mesh::http {
namespace {

using Progress = ResponseParser::Progress;

ResponseParser parser(ResponseParser::Body body = ResponseParser::Body::kKeep) {
  return {ResponseParser::Method::kOther, body, 16384};
}
Progress feed(ResponseParser& parser, std::string_view text) { return parser.feed(std::as_bytes(std::span(text))); }

TEST(ResponseParser, a_response_is_the_same_however_its_bytes_are_split) {
  const std::string_view text =
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 503 Busy\r\nContent-Length: 4\r\nX: y\r\n\r\nbody";
  for (std::size_t cut = 0; cut < text.size(); ++cut) {
    auto response = parser();
    EXPECT_EQ(feed(response, text.substr(0, cut)), Progress::kMore) << cut;
    ASSERT_EQ(feed(response, text.substr(cut)), Progress::kDone) << cut << response.error();
    EXPECT_EQ(response.status(), 503U);
    EXPECT_EQ(response.body(), "body");
    EXPECT_TRUE(response.reusable());
  }
}

TEST(ResponseParser, one_parser_reads_response_after_response) {
  auto response = parser();
  for (const char* text : {"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"}) {
    ASSERT_EQ(feed(response, text), Progress::kDone) << text;
    EXPECT_TRUE(response.reusable()) << text;
    response.restart();
  }
}

TEST(ResponseParser, a_connection_is_reusable_only_when_both_sides_keep_it_and_nothing_is_left_over) {
  for (const char* text : {"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
                           "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
                           "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore"}) {
    auto response = parser();
    ASSERT_EQ(feed(response, text), Progress::kDone) << text;
    EXPECT_FALSE(response.reusable()) << text;
  }
}

TEST(ResponseParser, a_body_without_length_ends_with_the_connection_and_others_are_cut_off) {
  auto response = parser();
  EXPECT_EQ(feed(response, "HTTP/1.1 200 OK\r\n\r\nhello"), Progress::kMore);
  EXPECT_EQ(response.finish(), Progress::kDone);
  EXPECT_EQ(response.body(), "hello");
  EXPECT_FALSE(response.reusable());

  for (const char* text : {"", "HTTP/1.1 20", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"}) {
    auto cut = parser();
    feed(cut, text);
    EXPECT_EQ(cut.finish(), Progress::kFailed) << text;
    EXPECT_FALSE(cut.error().empty());
    EXPECT_EQ(cut.got_bytes(), *text != 0);
  }
}

TEST(ResponseParser, an_endless_body_costs_the_limit_and_the_status_counts) {
  auto response = parser();
  ASSERT_EQ(feed(response, "HTTP/1.1 200 OK\r\n\r\n"), Progress::kMore);
  const std::string block(1000, 'x');
  std::size_t fed = 0;
  while (feed(response, block) == Progress::kMore) fed += block.size();
  EXPECT_LE(fed, 16384U);
  EXPECT_EQ(response.status(), 200U);
  EXPECT_FALSE(response.reusable());
}

TEST(ResponseParser, endless_headers_and_garbage_fail) {
  auto endless = parser();
  std::size_t fed = 0;
  feed(endless, "HTTP/1.1 200 OK\r\n");
  while (feed(endless, "X: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n") == Progress::kMore) fed += 50;
  EXPECT_LE(fed, 17000U);
  EXPECT_FALSE(endless.error().empty());
  for (const char* text : {"SSH-2.0-OpenSSH_9.2\r\n\r\n", "HTTP/9 200 OK\r\n\r\n", "HTTP/1.1 99999 OK\r\n\r\n"}) {
    auto garbage = parser();
    EXPECT_EQ(feed(garbage, text), Progress::kFailed) << text;
  }
}

TEST(BuildRequest, sends_given_headers_as_given_and_lets_them_replace_ours) {
  EXPECT_EQ(build_request({.path = "/healthz", .host = "shop"}, {{"X-Probe", "1"}, {"user-agent", "me"}}, "meshd/1"),
            "GET /healthz HTTP/1.1\r\nHost: shop\r\nAccept: */*\r\nX-Probe: 1\r\nuser-agent: me\r\n\r\n");
}

}  // namespace
}  // namespace mesh::http

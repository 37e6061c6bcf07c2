// SPDX-License-Identifier: Apache-2.0
#include "relay/proxy_header.hpp"

#include <gtest/gtest.h>

namespace mesh::relay {
namespace {

using namespace std::string_literals;

ProxyParse parse(const std::string& bytes) { return parse_proxy_header(std::as_bytes(std::span(bytes))); }

base::SocketAddress address(std::string_view text) { return *base::SocketAddress::parse(text); }

ProxyHeader full(std::string_view source, std::string_view destination) {
  return {.source = address(source),
          .destination = address(destination),
          .alpn = "h2",
          .authority = "shop.test",
          .unique_id = "42",
          .tls = ProxyTls{
              .version = "TLSv1.3", .cipher = "TLS_AES_128_GCM_SHA256", .certificate = true, .common_name = "client"}};
}

/// A header with `values` behind IPv4 addresses.
std::string with_values(const std::string& values) {
  std::string bytes = "\r\n\r\n\0\r\nQUIT\n\x21\x11"s;
  bytes += '\0';
  bytes += static_cast<char>(12 + values.size());
  return bytes + "\x0a\0\0\1\x0a\0\0\2\x10\0\0\x50"s + values;
}

TEST(ProxyHeader, what_is_written_is_read_again) {
  for (const ProxyHeader& header :
       {full("10.0.0.1:4096", "10.0.0.2:80"), full("[fd00::1]:4096", "[fd00::2]:80"),
        full("10.0.0.1:4096", "[fd00::2]:80"), ProxyHeader{}, ProxyHeader{.tls = ProxyTls{.version = "TLSv1.2"}}}) {
    const std::string bytes = encode(header);
    const ProxyParse parsed = parse(bytes + "GET /");
    EXPECT_EQ(parsed.state, ProxyState::kHeader) << parsed.problem;
    EXPECT_EQ(parsed.size, bytes.size());
    EXPECT_EQ(parsed.header, header);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      EXPECT_EQ(parse(bytes.substr(0, size)).state, ProxyState::kMore) << size;
    }
  }
}

TEST(ProxyHeader, the_bytes_are_those_of_the_specification) {
  const ProxyHeader header{.source = address("10.0.0.1:4096"), .destination = address("10.0.0.2:80"), .alpn = "h2"};
  EXPECT_EQ(encode(header), with_values("\x01\0\2h2"s));
}

TEST(ProxyHeader, a_local_connection_and_one_of_another_family_have_no_addresses) {
  const ProxyParse local = parse("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0rest"s);
  EXPECT_EQ(local.state, ProxyState::kHeader);
  EXPECT_EQ(local.size, 16u);
  EXPECT_EQ(local.header, ProxyHeader{});
  std::string unix_socket = "\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8"s + std::string(216, 'x');
  EXPECT_EQ(parse(unix_socket).header, ProxyHeader{});
  EXPECT_EQ(parse(unix_socket).size, 232u);
}

TEST(ProxyHeader, refuses_what_is_none_at_its_first_wrong_byte) {
  EXPECT_EQ(parse("GET").problem, "no PROXY protocol header, version 2");
  EXPECT_EQ(parse("PROXY TCP4 ").problem, "no PROXY protocol header, version 2");
  EXPECT_EQ(parse("\r\n\r\n\0\r\nQUIX"s).problem, "no PROXY protocol header, version 2");
  EXPECT_EQ(parse("\r\n\r\n\0\r\nQUIT\n\x11\x11\0\0"s).problem, "an unknown version or command");
  EXPECT_EQ(parse("\r\n\r\n\0\r\nQUIT\n\x22\x11\0\0"s).problem, "an unknown version or command");
  EXPECT_EQ(parse("\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"s).problem, "the header is too long");
  EXPECT_EQ(parse("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x02zz"s).problem, "the addresses are cut");
  for (const std::string& values : {"\x01"s, "\x01\0\3h2"s, "\x20\0\1\1"s, "\x20\0\6\1\0\0\0\0z"s}) {
    EXPECT_EQ(parse(with_values(values)).problem, "a value of the header is cut");
  }
}

TEST(ProxyHeader, a_checksum_is_verified) {
  // CRC-32C of the header with four zero bytes in its place, as other implementations compute it.
  const std::string good = with_values("\x03\0\4\xa2\xf8\xf1\xcf"s);
  const ProxyParse parsed = parse(good);
  EXPECT_EQ(parsed.state, ProxyState::kHeader) << parsed.problem;
  std::string wrong = good;
  wrong[16] ^= 1;
  EXPECT_EQ(parse(wrong).problem, "the checksum is wrong");
  EXPECT_EQ(parse(with_values("\x03\0\3zzz"s)).problem, "the checksum is wrong");
}

TEST(ProxyHeader, texts_that_are_too_long_are_left_out) {
  const ProxyHeader header{.authority = std::string(256, 'a'), .unique_id = std::string(129, 'u')};
  EXPECT_EQ(parse(encode(header)).header, ProxyHeader{});
}

}  // namespace
}  // namespace mesh::relay

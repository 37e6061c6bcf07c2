// SPDX-License-Identifier: Apache-2.0
#include "tls/client_hello.hpp"

#include <gtest/gtest.h>

#include "tests/support/tls_client.hpp"

namespace mesh::tls {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span(text)); }

Peek peek(std::string_view bytes) { return peek_client_hello(bytes_of(bytes)); }

std::string record(std::string_view content) {
  std::string bytes("\x16\x03\x01", 3);
  bytes += static_cast<char>(content.size() >> 8);
  bytes += static_cast<char>(content.size());
  return bytes + std::string(content);
}

/// The same message in records of `piece` bytes.
std::string cut(std::string_view hello, std::size_t piece) {
  std::string bytes;
  const std::string_view message = hello.substr(5);
  for (std::size_t at = 0; at < message.size(); at += piece) bytes += record(message.substr(at, piece));
  return bytes;
}

const ClientHello kWanted{.server_name = "shop.test", .alpn = {"h2", "http/1.1"}};

std::string hello() {
  return test::TlsClient({.server_name = "Shop.test", .alpn = "\x02h2\x08http/1.1"}).take_output();
}

TEST(TlsClientHello, names_what_a_real_client_asks_for) {
  const Peek peeked = peek(hello());
  EXPECT_EQ(peeked.state, PeekState::kHello) << peeked.problem;
  EXPECT_EQ(peeked.hello, kWanted);
  EXPECT_EQ(peek(test::TlsClient({}).take_output()).hello, ClientHello{});
  EXPECT_EQ(peek(hello() + "more").hello, kWanted);
}

TEST(TlsClientHello, waits_for_the_rest_wherever_it_is_cut) {
  const std::string whole = hello();
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_EQ(peek(whole.substr(0, size)).state, PeekState::kMore) << size;
  }
}

TEST(TlsClientHello, may_be_cut_into_records) {
  const std::string whole = hello();
  for (const std::size_t piece : {whole.size() / 2, whole.size() / 30}) {
    EXPECT_EQ(peek(cut(whole, piece)).hello, kWanted) << piece;
  }
  EXPECT_EQ(peek(cut(whole, 1)).problem, "the hello is cut into too many records");
}

TEST(TlsClientHello, refuses_what_is_none_and_does_not_wait_for_more) {
  EXPECT_EQ(peek("G").problem, "not TLS");
  EXPECT_EQ(peek("\x16G").problem, "not TLS");
  EXPECT_EQ(peek(std::string_view("\x16\x03\x01\0\0", 5)).problem, "a record of the hello has no right length");
  EXPECT_EQ(peek("\x16\x03\x01\xff\xff").problem, "a record of the hello has no right length");
  EXPECT_EQ(peek(record("\x02zzz")).problem, "the first message is no hello of a client");
  EXPECT_EQ(peek(record("\x01\x01zz")).problem, "the hello is too long");
  EXPECT_EQ(peek(record(std::string_view("\x01\0\0\x04zzzz", 8))).problem, "the hello is damaged");
}

TEST(TlsClientHello, whichever_byte_is_wrong_nothing_breaks) {
  const std::string whole = hello();
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const int bit : {0x01, 0x80, 0xff}) {
      std::string damaged = whole;
      damaged[at] = static_cast<char>(damaged[at] ^ bit);
      const Peek peeked = peek(damaged);
      EXPECT_EQ(peeked.problem.empty(), peeked.state != PeekState::kRefused);
    }
  }
}

}  // namespace
}  // namespace mesh::tls

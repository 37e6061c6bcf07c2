// SPDX-License-Identifier: Apache-2.0
#include "tls/client_hello.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>

#include "tls/name_index.hpp"

namespace mesh::tls {
namespace {

constexpr std::uint8_t kHandshakeRecord = 22;
constexpr std::uint8_t kClientHelloMessage = 1;
constexpr std::size_t kRecordHeader = 5;
constexpr std::size_t kMessageHeader = 4;
constexpr std::size_t kRecordMax = 16 * 1024;
constexpr std::uint16_t kServerName = 0;
constexpr std::uint16_t kAlpn = 16;
constexpr std::uint8_t kHostName = 0;

/// Reads numbers and length-prefixed parts from the front; once something is missing, it fails and stays so.
class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : bytes_(bytes) {}

  std::uint32_t number(std::size_t size) {
    std::uint32_t value = 0;
    for (const std::byte byte : take(size)) value = value << 8 | std::to_integer<std::uint32_t>(byte);
    return value;
  }
  std::span<const std::byte> take(std::size_t size) {
    if (size > bytes_.size()) good_ = false;
    const auto part = bytes_.first(good_ ? size : 0);
    bytes_ = bytes_.subspan(part.size());
    return part;
  }
  Reader part(std::size_t length_size) { return Reader(take(number(length_size))); }
  [[nodiscard]] bool more() const { return good_ && !bytes_.empty(); }
  [[nodiscard]] bool good() const { return good_; }
  [[nodiscard]] std::string text() const { return {reinterpret_cast<const char*>(bytes_.data()), bytes_.size()}; }

 private:
  std::span<const std::byte> bytes_;
  bool good_ = true;
};

/// RFC 6066 section 3: a list of names of which one kind exists.
bool read_server_name(Reader extension, ClientHello& hello) {
  Reader list = extension.part(2);
  while (list.more()) {
    const auto kind = list.number(1);
    const Reader name = list.part(2);
    if (!list.good()) return false;
    if (kind != kHostName) continue;
    const std::string text = name.text();
    if (text.empty() || text.contains('\0') || !hello.server_name.empty()) return false;
    hello.server_name = normal_name(text);
  }
  return extension.good() && !extension.more() && list.good();
}

/// RFC 7301 section 3.1
bool read_alpn(Reader extension, ClientHello& hello) {
  Reader list = extension.part(2);
  while (list.more()) {
    const Reader name = list.part(1);
    if (!list.good() || name.text().empty()) return false;
    hello.alpn.push_back(name.text());
  }
  return extension.good() && !extension.more() && list.good();
}

/// The body of the message; RFC 8446 section 4.1.2, the same in all versions.
std::optional<ClientHello> read_hello(Reader body) {
  ClientHello hello;
  body.take(2 + 32);                                                           // legacy version, random
  body.part(1);                                                                // legacy session id
  body.part(2);                                                                // cipher suites
  body.part(1);                                                                // compression methods
  if (!body.more()) return body.good() ? std::optional(hello) : std::nullopt;  // TLS 1.2 without extensions
  Reader extensions = body.part(2);
  if (!body.good() || body.more()) return std::nullopt;
  while (extensions.more()) {
    const auto kind = extensions.number(2);
    const Reader extension = extensions.part(2);
    if (!extensions.good()) return std::nullopt;
    if (kind == kServerName && !read_server_name(extension, hello)) return std::nullopt;
    if (kind == kAlpn && !read_alpn(extension, hello)) return std::nullopt;
  }
  return extensions.good() ? std::optional(std::move(hello)) : std::nullopt;
}

Peek refused(std::string_view problem) { return {PeekState::kRefused, {}, problem}; }

}  // namespace

Peek peek_client_hello(std::span<const std::byte> bytes) {
  std::vector<std::byte> joined;  // of a message that is cut into records
  std::span<const std::byte> rest = bytes;
  for (std::size_t records = 1; !rest.empty(); ++records) {
    if (std::to_integer<std::uint8_t>(rest[0]) != kHandshakeRecord) return refused("not TLS");
    if (rest.size() > 1 && std::to_integer<std::uint8_t>(rest[1]) != 3) return refused("not TLS");
    if (rest.size() < kRecordHeader) break;
    const std::size_t size = std::to_integer<std::size_t>(rest[3]) << 8 | std::to_integer<std::size_t>(rest[4]);
    if (size == 0 || size > kRecordMax) return refused("a record of the hello has no right length");
    const auto content = rest.subspan(kRecordHeader, std::min(size, rest.size() - kRecordHeader));
    if (records == 1 && !content.empty() && std::to_integer<std::uint8_t>(content[0]) != kClientHelloMessage) {
      return refused("the first message is no hello of a client");
    }
    rest = rest.subspan(kRecordHeader + content.size());
    std::span<const std::byte> message = content;
    if (records > 1 || content.size() == size) {
      joined.insert(joined.end(), content.begin(), content.end());
      message = joined;
    }
    if (message.size() >= kMessageHeader) {
      const std::size_t length = Reader(message.subspan(1, 3)).number(3);
      if (length > kClientHelloBytesMax) return refused("the hello is too long");
      if (message.size() >= kMessageHeader + length) {
        auto hello = read_hello(Reader(message.subspan(kMessageHeader, length)));
        return hello ? Peek{PeekState::kHello, std::move(*hello), {}} : refused("the hello is damaged");
      }
    }
    if (records == kClientHelloRecordsMax) return refused("the hello is cut into too many records");
  }
  return bytes.size() >= kClientHelloBytesMax ? refused("the hello is too long") : Peek{};
}

}  // namespace mesh::tls

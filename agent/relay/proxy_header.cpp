// SPDX-License-Identifier: Apache-2.0
#include "relay/proxy_header.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

namespace mesh::relay {
namespace {

using Bytes = std::span<const std::byte>;

constexpr std::string_view kSignature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::size_t kHeadBytes = 16;
constexpr std::uint8_t kVersion2 = 0x20;
constexpr std::uint8_t kLocal = 0;
constexpr std::uint8_t kProxy = 1;
constexpr std::uint8_t kTcp4 = 0x11;
constexpr std::uint8_t kTcp6 = 0x21;
constexpr std::size_t kAddresses4 = 12;
constexpr std::size_t kAddresses6 = 36;

enum Type : std::uint8_t {
  kAlpn = 0x01,
  kAuthority = 0x02,
  kCrc32c = 0x03,
  kUniqueId = 0x05,
  kSsl = 0x20,
  kSslVersion = 0x21,
  kSslCommonName = 0x22,
  kSslCipher = 0x23,
  kService = 0xe0,
};
constexpr std::uint8_t kClientSsl = 1;
constexpr std::uint8_t kClientCertConnection = 2;
constexpr std::size_t kSslHead = 5;
constexpr std::size_t kUniqueIdMax = 128;  // as the specification says
constexpr std::size_t kServiceMax = 260;   // a name of 253, a colon and a port
constexpr std::size_t kTextMax = 255;

std::uint8_t byte_at(Bytes bytes, std::size_t at) { return std::to_integer<std::uint8_t>(bytes[at]); }
std::uint16_t number16(Bytes bytes, std::size_t at) {
  return static_cast<std::uint16_t>(byte_at(bytes, at) << 8 | byte_at(bytes, at + 1));
}
std::string text_of(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

void put16(std::string& out, std::size_t number) {
  out += static_cast<char>(number >> 8);
  out += static_cast<char>(number);
}

void put(std::string& out, Type type, std::string_view value) {
  out += static_cast<char>(type);
  put16(out, value.size());
  out += value;
}

void put_text(std::string& out, Type type, std::string_view value, std::size_t limit = kTextMax) {
  if (!value.empty() && value.size() <= limit) put(out, type, value);
}

/// CRC-32C (Castagnoli), bit by bit: a header is short.
std::uint32_t crc32c(std::uint32_t crc, Bytes bytes) {
  for (const std::byte byte : bytes) {
    crc ^= std::to_integer<std::uint32_t>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0u);
  }
  return crc;
}

bool good_checksum(Bytes header, std::size_t value_at) {
  constexpr std::array<std::byte, 4> kZero{};
  std::uint32_t crc = ~0u;
  crc = crc32c(crc, header.first(value_at));
  crc = crc32c(crc, kZero);
  crc = ~crc32c(crc, header.subspan(value_at + kZero.size()));
  const std::uint32_t said =
      static_cast<std::uint32_t>(number16(header, value_at)) << 16 | number16(header, value_at + 2);
  return said == crc;
}

/// Calls take(type, value, offset of the value) for each; false if they don't fill `header` from `at` on exactly.
template <typename Take>
bool each_value(Bytes header, std::size_t at, Take&& take) {
  while (at < header.size()) {
    if (header.size() - at < 3) return false;
    const std::size_t size = number16(header, at + 1);
    if (header.size() - at - 3 < size) return false;
    if (!take(byte_at(header, at), header.subspan(at + 3, size), at + 3)) return false;
    at += 3 + size;
  }
  return true;
}

bool read_tls(Bytes value, std::optional<ProxyTls>& out) {
  if (value.size() < kSslHead) return false;
  const std::uint8_t client = byte_at(value, 0);
  ProxyTls tls{.certificate =
                   (client & kClientCertConnection) != 0 && number16(value, 1) == 0 && number16(value, 3) == 0};
  const bool good = each_value(value, kSslHead, [&](std::uint8_t type, Bytes text, std::size_t) {
    if (type == kSslVersion) tls.version = text_of(text);
    if (type == kSslCommonName) tls.common_name = text_of(text);
    if (type == kSslCipher) tls.cipher = text_of(text);
    return true;
  });
  if (good && (client & kClientSsl) != 0) out = std::move(tls);
  return good;
}

base::SocketAddress address4(Bytes bytes, std::size_t at, std::size_t port_at) {
  base::SocketAddress address{.port = number16(bytes, port_at)};
  address.ip.bytes[10] = address.ip.bytes[11] = 0xff;
  std::memcpy(address.ip.bytes.data() + 12, bytes.data() + at, 4);
  return address;
}

base::SocketAddress address6(Bytes bytes, std::size_t at, std::size_t port_at) {
  base::SocketAddress address{.port = number16(bytes, port_at)};
  std::memcpy(address.ip.bytes.data(), bytes.data() + at, 16);
  return address;
}

ProxyParse refused(std::string_view problem) { return {.state = ProxyState::kRefused, .problem = problem}; }

}  // namespace

std::string encode(const ProxyHeader& header) {
  std::string content;
  std::uint8_t family = 0;
  const bool known = header.source && header.destination;
  if (known) {
    const bool v4 = header.source->ip.is_v4() && header.destination->ip.is_v4();
    family = v4 ? kTcp4 : kTcp6;
    for (const auto* address : {&*header.source, &*header.destination}) {
      const auto* bytes = reinterpret_cast<const char*>(address->ip.bytes.data());
      content.append(v4 ? bytes + 12 : bytes, v4 ? 4 : 16);
    }
    put16(content, header.source->port);
    put16(content, header.destination->port);
  }
  put_text(content, kAlpn, header.alpn);
  put_text(content, kAuthority, header.authority);
  put_text(content, kUniqueId, header.unique_id, kUniqueIdMax);
  put_text(content, kService, header.service, kServiceMax);
  if (header.tls) {
    std::string tls;
    const bool shown = header.tls->certificate;
    tls += static_cast<char>(kClientSsl | (shown ? kClientCertConnection : 0));
    tls.append(3, '\0');
    tls += static_cast<char>(shown ? 0 : 1);  // the verification's result: 0 is good
    put_text(tls, kSslVersion, header.tls->version);
    put_text(tls, kSslCipher, header.tls->cipher);
    put_text(tls, kSslCommonName, header.tls->common_name);
    put(content, kSsl, tls);
  }
  std::string bytes(kSignature);
  bytes += static_cast<char>(kVersion2 | (known ? kProxy : kLocal));
  bytes += static_cast<char>(family);
  put16(bytes, content.size());
  return bytes + content;
}

ProxyParse parse_proxy_header(Bytes bytes) {
  const std::size_t seen = std::min(bytes.size(), kSignature.size());
  if (!std::ranges::equal(bytes.first(seen), std::as_bytes(std::span(kSignature)).first(seen)))
    return refused("no PROXY protocol header, version 2");
  if (bytes.size() < kHeadBytes) return {};
  const std::uint8_t command = byte_at(bytes, 12);
  if ((command & 0xf0) != kVersion2 || (command & 0x0f) > kProxy) return refused("an unknown version or command");
  const std::size_t size = kHeadBytes + number16(bytes, 14);
  if (size > kProxyHeaderBytesMax) return refused("the header is too long");
  if (bytes.size() < size) return {};
  bytes = bytes.first(size);

  ProxyParse parsed{.state = ProxyState::kHeader, .size = size};
  const std::uint8_t family = byte_at(bytes, 13);
  std::size_t at = kHeadBytes;
  if (family == kTcp4 || family == kTcp6) {
    at += family == kTcp4 ? kAddresses4 : kAddresses6;
    if (at > size) return refused("the addresses are cut");
  } else if (family != 0) {
    // UDP or a unix socket, whose addresses we have no use for; nor can we tell where their values begin.
    return parsed;
  }
  ProxyHeader& header = parsed.header;
  if ((command & 0x0f) == kProxy && family == kTcp4) {
    header.source = address4(bytes, 16, 24);
    header.destination = address4(bytes, 20, 26);
  } else if ((command & 0x0f) == kProxy && family == kTcp6) {
    header.source = address6(bytes, 16, 48);
    header.destination = address6(bytes, 32, 50);
  }
  bool checked = true;
  const bool good = each_value(bytes, at, [&](std::uint8_t type, Bytes value, std::size_t value_at) {
    if (type == kAlpn) header.alpn = text_of(value);
    if (type == kAuthority) header.authority = text_of(value);
    if (type == kUniqueId) header.unique_id = text_of(value);
    if (type == kService) header.service = text_of(value);
    if (type == kSsl) return read_tls(value, header.tls);
    if (type == kCrc32c) {
      checked = checked && value.size() == 4 && good_checksum(bytes, value_at);
    }
    return true;
  });
  if (!good) return refused("a value of the header is cut");
  if (!checked) return refused("the checksum is wrong");
  return parsed;
}

}  // namespace mesh::relay

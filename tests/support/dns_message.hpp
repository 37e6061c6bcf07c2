// SPDX-License-Identifier: Apache-2.0
// DNS messages for tests, put together record by record, without compression.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/address.hpp"

namespace mesh::support {

class DnsMessage {
 public:
  enum class Section : std::uint8_t { kAnswer, kAuthority, kAdditional };
  static constexpr std::uint16_t kA = 1, kCname = 5, kSoa = 6, kAaaa = 28, kSrv = 33;

  DnsMessage(std::string_view name, std::uint16_t type, std::uint16_t flags = 0x8180) : flags_(flags) {
    put_name(question_, name);
    put16(question_, type);
    put16(question_, 1);
  }
  DnsMessage& address(std::string_view name, const char* ip, std::uint32_t ttl, Section section = Section::kAnswer) {
    const auto parsed = *base::IpAddress::parse(ip);
    const std::size_t skip = parsed.is_v4() ? 12 : 0;
    return record(name, parsed.is_v4() ? kA : kAaaa, ttl, {parsed.bytes.begin() + skip, parsed.bytes.end()}, section);
  }
  DnsMessage& cname(std::string_view name, std::string_view target, std::uint32_t ttl) {
    std::vector<std::uint8_t> data;
    put_name(data, target);
    return record(name, kCname, ttl, data, Section::kAnswer);
  }
  DnsMessage& srv(std::string_view name, std::uint16_t priority, std::uint16_t weight, std::uint16_t port,
                  std::string_view target, std::uint32_t ttl) {
    std::vector<std::uint8_t> data;
    put16(data, priority);
    put16(data, weight);
    put16(data, port);
    put_name(data, target);
    return record(name, kSrv, ttl, data, Section::kAnswer);
  }
  DnsMessage& soa(std::string_view name, std::uint32_t ttl, std::uint32_t minimum) {
    std::vector<std::uint8_t> data;
    put_name(data, "ns.example");
    put_name(data, "admin.example");
    for (const std::uint32_t number : {1U, 2U, 3U, 4U, minimum}) put32(data, number);
    return record(name, kSoa, ttl, data, Section::kAuthority);
  }
  DnsMessage& record(std::string_view name, std::uint16_t type, std::uint32_t ttl,
                     const std::vector<std::uint8_t>& data, Section section) {
    auto& bytes = sections_[static_cast<std::size_t>(section)];
    put_name(bytes, name);
    put16(bytes, type);
    put16(bytes, 1);
    put32(bytes, ttl);
    put16(bytes, static_cast<std::uint16_t>(data.size()));
    bytes.insert(bytes.end(), data.begin(), data.end());
    ++counts_[static_cast<std::size_t>(section)];
    return *this;
  }
  [[nodiscard]] std::vector<std::uint8_t> bytes() const {
    std::vector<std::uint8_t> all;
    put16(all, 4711);
    put16(all, flags_);
    put16(all, 1);
    for (const std::uint16_t count : counts_) put16(all, count);
    all.insert(all.end(), question_.begin(), question_.end());
    for (const auto& section : sections_) all.insert(all.end(), section.begin(), section.end());
    return all;
  }

 private:
  static void put16(std::vector<std::uint8_t>& out, std::uint16_t value) {
    out.push_back(static_cast<std::uint8_t>(value >> 8));
    out.push_back(static_cast<std::uint8_t>(value));
  }
  static void put32(std::vector<std::uint8_t>& out, std::uint32_t value) {
    put16(out, static_cast<std::uint16_t>(value >> 16));
    put16(out, static_cast<std::uint16_t>(value));
  }
  static void put_name(std::vector<std::uint8_t>& out, std::string_view name) {
    while (!name.empty()) {
      const std::string_view label = name.substr(0, name.find('.'));
      name.remove_prefix(std::min(label.size() + 1, name.size()));
      out.push_back(static_cast<std::uint8_t>(label.size()));
      out.insert(out.end(), label.begin(), label.end());
    }
    out.push_back(0);
  }

  std::uint16_t flags_;
  std::vector<std::uint8_t> question_;
  std::vector<std::uint8_t> sections_[3];
  std::uint16_t counts_[3] = {};
};

}  // namespace mesh::support

// SPDX-License-Identifier: Apache-2.0
#include "discovery/vip_pool.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <utility>

#include "base/fd.hpp"
#include "base/log.hpp"
#include "base/random.hpp"

namespace mesh::discovery {
namespace {

constexpr base::log::Logger kLog{"vips"};
constexpr std::string_view kHeader = "meshd-vips 1 ";
constexpr std::size_t kMaxBytes = 64 << 20;
constexpr unsigned kMode = 0600;
constexpr unsigned kMaxDrawnBits = 31;
constexpr VipTable::Day kForgottenDays = 2;  ///< Names in use are named anew every day.
constexpr unsigned kByHand = 16;             ///< One part in so many is left for addresses written by hand.

std::uint64_t hash_of(std::string_view text) {
  return base::hash64({reinterpret_cast<const std::uint8_t*>(text.data()), text.size()});
}

/// The last eight bytes as a number.
std::uint64_t low_half(const base::IpAddress& ip) {
  std::uint64_t value = 0;
  for (std::size_t i = 8; i < 16; ++i) value = value << 8 | ip.bytes[i];
  return value;
}

void set_low_half(base::IpAddress& ip, std::uint64_t value) {
  for (std::size_t i = 16; i-- > 8; value >>= 8) ip.bytes[i] = static_cast<std::uint8_t>(value);
}

unsigned first_bit(const VipRange& range) { return range.ip.is_v4() ? 96 + range.bits : range.bits; }

/// The bits behind the prefix that are drawn.
unsigned drawn_bits(const VipRange& range) { return std::min(128 - first_bit(range), kMaxDrawnBits); }

std::uint64_t first_place(const VipRange& range) {
  return std::max<std::uint64_t>((1ULL << drawn_bits(range)) / kByHand, 1);
}

VipTable::Day today() {
  return static_cast<VipTable::Day>(
      std::chrono::duration_cast<std::chrono::days>(base::wall_now().time_since_epoch()).count());
}

}  // namespace

base::Result<VipRange> VipRange::parse(std::string_view text) {
  const auto refuse = [&](const std::string& why) {
    return base::fail(base::ErrorKind::kInvalid, "'" + std::string(text) + "' " + why,
                      "write it as 240.64.0.0/12 or fd6d:6573:6864::/64");
  };
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return refuse("has no prefix length");
  const auto ip = base::IpAddress::parse(text.substr(0, slash));
  if (!ip) return refuse("is no range of addresses");
  unsigned bits = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data() + slash + 1, end, bits);
  const unsigned all = ip->is_v4() ? 32 : 128;
  if (parsed.ec != std::errc{} || parsed.ptr != end || bits < 8 || bits > all - 2) {
    return refuse(fmt::format("has no prefix length of 8 to {}", all - 2));
  }
  VipRange range{*ip, bits};
  for (unsigned bit = first_bit(range); bit < 128; ++bit) {
    if ((ip->bytes[bit / 8] >> (7 - bit % 8) & 1) != 0) return refuse("has bits behind its prefix");
  }
  return range;
}

std::string VipRange::to_string() const { return fmt::format("{}/{}", ip.to_string(), bits); }

bool VipRange::contains(const base::IpAddress& other) const {
  if (ip.is_v4() != other.is_v4()) return false;
  for (unsigned bit = 0; bit < first_bit(*this); ++bit) {
    if (((ip.bytes[bit / 8] ^ other.bytes[bit / 8]) >> (7 - bit % 8) & 1) != 0) return false;
  }
  return true;
}

/// Without the last one, which is a broadcast address to some.
std::uint64_t VipRange::capacity() const { return (1ULL << drawn_bits(*this)) - first_place(*this) - 1; }

base::IpAddress VipRange::at(std::uint64_t n) const {
  base::IpAddress result = ip;
  set_low_half(result, low_half(ip) | (n + first_place(*this)));
  return result;
}

VipTable::VipTable(VipRange range, const std::vector<base::IpAddress>& reserved) : range_(range) {
  for (const base::IpAddress& ip : reserved) {
    if (!range_.contains(ip)) continue;
    const std::uint64_t place = low_half(ip) - low_half(range_.ip) - first_place(range_);
    if (place < range_.capacity()) reserved_.insert(place);
  }
}

base::Result<base::IpAddress> VipTable::assign(const std::string& name, Day today) {
  if (const auto known = entries_.find(name); known != entries_.end()) {
    changed_ |= known->second.used != today;
    known->second.used = today;
    return range_.at(known->second.place);
  }
  const std::uint64_t capacity = range_.capacity();
  if (entries_.size() + reserved_.size() >= capacity && !reclaim(today)) {
    return base::fail(base::ErrorKind::kExhausted,
                      fmt::format("give {} an address of {}: all {} are in use", name, range_.to_string(), capacity),
                      "name a larger range in agent.vip_range");
  }
  std::uint64_t place = hash_of(name) % capacity;
  while (taken_.contains(place) || reserved_.contains(place)) place = (place + 1) % capacity;
  entries_.emplace(name, Entry{place, today});
  taken_.emplace(place, name);
  changed_ = true;
  return range_.at(place);
}

/// Takes the address away from the name that has been without use for longest.
bool VipTable::reclaim(Day today) {
  const auto oldest = std::ranges::min_element(entries_, {}, [](const auto& entry) { return entry.second.used; });
  if (oldest == entries_.end() || oldest->second.used + kForgottenDays > today) return false;
  taken_.erase(oldest->second.place);
  entries_.erase(oldest);
  return true;
}

void VipTable::restore(const std::string& name, const base::IpAddress& ip, Day used) {
  if (!range_.contains(ip) || entries_.contains(name)) return;
  const std::uint64_t place = low_half(ip) - low_half(range_.ip) - first_place(range_);
  if (place >= range_.capacity() || reserved_.contains(place) || taken_.contains(place) || range_.at(place) != ip)
    return;
  entries_.emplace(name, Entry{place, used});
  taken_.emplace(place, name);
}

std::string encode_vips(const VipTable& v4, const VipTable& v6) {
  std::string body;
  for (const VipTable* table : {&v4, &v6}) {
    for (const auto& [name, entry] : table->entries()) {
      body += fmt::format("{} {} {}\n", name, table->range().at(entry.place).to_string(), entry.used);
    }
  }
  return fmt::format("{}{} {:016x}\n{}", kHeader, body.size(), hash_of(body), body);
}

base::Result<void> decode_vips(std::string_view content, VipTable& v4, VipTable& v6) {
  const auto damaged = [](std::string_view why) {
    return base::fail(base::ErrorKind::kInvalid, "read the virtual addresses: " + std::string(why));
  };
  const std::size_t line_end = content.find('\n');
  if (!content.starts_with(kHeader) || line_end == std::string_view::npos) return damaged("the header is damaged");
  const std::string_view body = content.substr(line_end + 1);
  if (content.substr(0, line_end) != fmt::format("{}{} {:016x}", kHeader, body.size(), hash_of(body))) {
    return damaged("the checksum is wrong");
  }
  for (std::size_t at = 0; at < body.size();) {
    const std::size_t end = std::min(body.find('\n', at), body.size());
    const std::string_view line = body.substr(at, end - at);
    at = end + 1;
    const std::size_t first = line.find(' ');
    const std::size_t second = line.find(' ', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) return damaged("a line is damaged");
    const auto ip = base::IpAddress::parse(line.substr(first + 1, second - first - 1));
    VipTable::Day used = 0;
    std::from_chars(line.data() + second + 1, line.data() + line.size(), used);
    if (!ip) return damaged("an address is damaged");
    (ip->is_v4() ? v4 : v6).restore(std::string(line.substr(0, first)), *ip, used);
  }
  return {};
}

VipPool::VipPool(Options options)
    : path_(std::move(options.path)), v4_(options.v4, options.reserved), v6_(options.v6, options.reserved) {
  if (path_.empty()) return;
  const auto content = base::read_file(path_, kMaxBytes);
  if (!content) {
    if (content.error().kind != base::ErrorKind::kNotFound) {
      kLog.warn("virtual addresses not read; they are drawn by their names again", {{"err", content.error()}});
    }
    return;
  }
  if (const auto decoded = decode_vips(*content, v4_, v6_); !decoded) {
    kLog.warn("virtual addresses not read; they are drawn by their names again", {{"err", decoded.error()}});
  }
}

base::Result<base::IpAddress> VipPool::assign(const std::string& name, bool v4) {
  const std::lock_guard lock(mutex_);
  return (v4 ? v4_ : v6_).assign(name, today());
}

base::Result<void> VipPool::keep() {
  const std::lock_guard lock(mutex_);
  if (path_.empty() || (!v4_.changed() && !v6_.changed())) return {};
  std::error_code ignored;  // the write says what is wrong
  std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), ignored);
  MESH_CHECK(base::write_file_atomically(path_, encode_vips(v4_, v6_), kMode));
  v4_.kept();
  v6_.kept();
  return {};
}

std::size_t VipPool::used() const {
  const std::lock_guard lock(mutex_);
  return v4_.entries().size() + v6_.entries().size();
}

}  // namespace mesh::discovery

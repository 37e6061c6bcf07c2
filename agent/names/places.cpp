// SPDX-License-Identifier: Apache-2.0
#include "names/places.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "base/fd.hpp"
#include "base/net_namespaces.hpp"

namespace mesh::names {
namespace {

constexpr std::size_t kResolvConfMax = 16384;
constexpr std::size_t kResolversPerPlace = 4;  // resolv.conf(5) has three

/// The file as somebody else's root has it: not followed into a pipe or a device, which could hold us up.
std::string read_resolv_conf(const std::string& path) {
  const base::Fd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  struct stat status{};
  if (!fd.valid() || ::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode)) return {};
  std::array<char, kResolvConfMax> buffer;
  const ssize_t count = ::read(fd.get(), buffer.data(), buffer.size());
  return count > 0 ? std::string(buffer.data(), static_cast<std::size_t>(count)) : std::string();
}

}  // namespace

std::vector<base::SocketAddress> parse_resolv_conf(std::string_view text) {
  std::vector<base::SocketAddress> resolvers;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line) && resolvers.size() < kResolversPerPlace;) {
    std::istringstream words(line);
    std::string keyword, address;
    words >> keyword >> address;
    if (keyword != "nameserver") continue;
    const auto ip = base::IpAddress::parse(address);
    if (!ip || ip->is_unspecified()) continue;
    const base::SocketAddress resolver{*ip, kDnsPort};
    if (std::ranges::find(resolvers, resolver) == resolvers.end()) resolvers.push_back(resolver);
  }
  return resolvers;
}

std::uint16_t ResolverPorts::port_of(const base::SocketAddress& resolver) {
  const auto known = ports_.find(resolver);
  if (known != ports_.end()) return known->second;
  if (ports_.size() >= kResolversMax) return 0;
  const auto port = static_cast<std::uint16_t>(first_ + ports_.size());
  ports_.emplace(resolver, port);
  return port;
}

std::vector<FoundPlace> find_places(const std::vector<std::string>& cgroup_folders, const std::string& own_folder) {
  std::vector<FoundPlace> places;
  for (const base::NetNamespace& found : base::find_net_namespaces(cgroup_folders, own_folder, kPlacesMax)) {
    const std::string root = found.path.empty() ? std::string() : fmt::format("/proc/{}/root", found.pid);
    places.push_back({found.id, found.path, parse_resolv_conf(read_resolv_conf(root + "/etc/resolv.conf"))});
  }
  return places;
}

}  // namespace mesh::names

// SPDX-License-Identifier: Apache-2.0
#include "acme/folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

namespace mesh::acme {
namespace {

using Json = nlohmann::json;

constexpr unsigned kFileMode = 0600;
constexpr std::size_t kFileBytesMax = 256 * 1024;

base::Result<void> make_folder(const std::string& path) {
  std::error_code error;
  const bool made = std::filesystem::create_directories(path, error);
  if (made) std::filesystem::permissions(path, std::filesystem::perms::owner_all, error);
  if (error) {
    return base::fail_errno(error.value(), "make the folder " + path,
                            "name one in relay.acme.folder that the relay may write");
  }
  return {};
}

}  // namespace

base::Result<Folder> Folder::open(const std::string& path) {
  MESH_CHECK(make_folder(path));
  const std::string lock_path = path + "/.lock";
  base::Fd lock(::open(lock_path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, kFileMode));
  if (!lock.valid()) return base::fail_errno(errno, "open " + lock_path, "the relay must be able to write there");
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return base::fail(base::ErrorKind::kConflict, "fetch certificates into " + path + ": another process does",
                      "if that is a relay that retires, wait; else name another folder");
  }
  return Folder(path, std::move(lock));
}

base::Result<tls::PrivateKey> Folder::account_key() {
  const std::string path = file(".account.key");
  if (std::error_code ignored; std::filesystem::exists(path, ignored)) {
    auto key = tls::PrivateKey::parse(MESH_TRY(base::read_file(path, kFileBytesMax)));
    if (key && key->is_p256()) return key;
    return base::fail(base::ErrorKind::kInvalid, "use the account's key " + path + ": it is no P-256 key",
                      "remove it, and a new account is made");
  }
  tls::PrivateKey key = tls::PrivateKey::make(tls::KeyType::kEcP256);
  MESH_CHECK(base::write_file_atomically(path, key.pem(), kFileMode));
  return key;
}

std::optional<Account> Folder::account() const {
  const auto text = base::read_file(file(".account.json"), kFileBytesMax);
  const Json json = text ? Json::parse(*text, nullptr, false) : Json();
  if (!json.is_object()) return std::nullopt;
  Account account;
  for (const auto& [name, value] : json.items()) {
    if (name == "directory" && value.is_string()) account.directory = value;
    if (name == "url" && value.is_string()) account.url = value;
    if (name != "contact" || !value.is_array()) continue;
    for (const Json& one : value) {
      if (one.is_string()) account.contact.push_back(one);
    }
  }
  return account;
}

base::Result<void> Folder::write_account(const Account& account) {
  const Json json = {{"directory", account.directory}, {"url", account.url}, {"contact", account.contact}};
  return base::write_file_atomically(file(".account.json"), json.dump(2) + "\n", kFileMode);
}

std::optional<Stored> Folder::read(const std::string& name) const {
  auto chain = base::read_file(file(name + ".crt"), kFileBytesMax);
  auto key = base::read_file(file(name + ".key"), kFileBytesMax);
  if (!chain || !key) return std::nullopt;
  auto certificate = tls::Certificate::parse(std::move(*chain), std::move(*key));
  if (!certificate) return std::nullopt;
  return Stored{std::move(*certificate), base::read_file(file("." + name + "/directory"), kFileBytesMax).value_or("")};
}

base::Result<void> Folder::write(const std::string& name, const std::string& directory, const std::string& key_pem,
                                 const std::string& chain_pem) {
  std::error_code ignored;
  const std::string in_force = std::filesystem::read_symlink(file("." + name), ignored);
  const std::string other = "." + name + (in_force.ends_with(".a") ? ".b" : ".a");
  MESH_CHECK(make_folder(file(other)));
  MESH_CHECK(base::write_file_atomically(file(other) + "/tls.key", key_pem, kFileMode));
  MESH_CHECK(base::write_file_atomically(file(other) + "/tls.crt", chain_pem, kFileMode));
  MESH_CHECK(base::write_file_atomically(file(other) + "/directory", directory, kFileMode));
  MESH_CHECK(point("." + name, other));
  MESH_CHECK(point(name + ".key", "." + name + "/tls.key"));
  return point(name + ".crt", "." + name + "/tls.crt");
}

base::Result<void> Folder::point(const std::string& link, const std::string& target) {
  std::error_code error;
  if (std::filesystem::read_symlink(file(link), error) == target) return {};
  const std::string beside = file("." + link + ".new");
  std::filesystem::remove(beside, error);
  std::filesystem::create_symlink(target, beside, error);
  if (!error) std::filesystem::rename(beside, file(link), error);
  if (error) return base::fail_errno(error.value(), "point " + file(link) + " to " + target);
  const base::Fd folder(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid() || ::fsync(folder.get()) != 0) return base::fail_errno(errno, "write the folder " + path_);
  return {};
}

}  // namespace mesh::acme

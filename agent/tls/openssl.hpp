// SPDX-License-Identifier: Apache-2.0
// OpenSSL's objects as owners, for the files of this room.
#pragma once

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <string_view>

#include "base/clock.hpp"

namespace mesh::tls {

template <auto Free>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    Free(object);
  }
};
using BioPtr = std::unique_ptr<BIO, Freer<BIO_free_all>>;
using X509Ptr = std::unique_ptr<X509, Freer<X509_free>>;
using X509CrlPtr = std::unique_ptr<X509_CRL, Freer<X509_CRL_free>>;
using X509StorePtr = std::unique_ptr<X509_STORE, Freer<X509_STORE_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, Freer<GENERAL_NAMES_free>>;

inline BioPtr read_only_bio(std::string_view text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

/// 1970 if it is none. Years beyond what a WallTime holds (2262) are its last.
inline base::WallTime time_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) return {};
  constexpr std::time_t kSecondsMax = std::chrono::floor<std::chrono::seconds>(base::Duration::max()).count();
  return base::WallTime{std::chrono::seconds(std::clamp<std::time_t>(::timegm(&parts), 0, kSecondsMax))};
}

/// Nobody sits at a terminal to type a passphrase.
inline int no_passphrase(char*, int, int, void*) { return -1; }

}  // namespace mesh::tls
